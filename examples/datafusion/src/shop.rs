//! The rows, and the answer to the question without SQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::cast::as_string_array;
use datafusion::error::{DataFusionError, Result};

const COUNTRIES: [&str; 5] = ["at", "br", "ch", "de", "ee"];
const CUSTOMERS: i64 = 500;
const ORDERS: i64 = 120_000;

/// Number of orders and their sum in cents, by country.
pub type Turnover = BTreeMap<String, (i64, i64)>;

struct Order {
    customer: i64,
    month: i64,
    cents: i64,
}

fn country_of(customer: i64) -> &'static str {
    COUNTRIES[(customer * customer % 7) as usize % COUNTRIES.len()]
}

fn all_orders() -> impl Iterator<Item = Order> {
    (0..ORDERS).map(|id| Order { customer: id * 7919 % CUSTOMERS, month: id % 12 + 1, cents: id * id % 100_003 })
}

/// id, country.
pub fn customers() -> Result<RecordBatch> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..CUSTOMERS));
    let countries: ArrayRef = Arc::new(StringArray::from_iter_values((0..CUSTOMERS).map(country_of)));
    Ok(RecordBatch::try_from_iter([("id", ids), ("country", countries)])?)
}

/// customer, cents, month.
pub fn orders() -> Result<RecordBatch> {
    let customers: ArrayRef = Arc::new(Int64Array::from_iter_values(all_orders().map(|order| order.customer)));
    let cents: ArrayRef = Arc::new(Int64Array::from_iter_values(all_orders().map(|order| order.cents)));
    let months = all_orders().map(|order| format!("{:02}", order.month));
    let months: ArrayRef = Arc::new(StringArray::from_iter_values(months));
    Ok(RecordBatch::try_from_iter([("customer", customers), ("cents", cents), ("month", months)])?)
}

/// The answer, from the rows.
pub fn turnover() -> Turnover {
    let mut all = Turnover::new();
    for order in all_orders().filter(|order| order.month >= 3) {
        let (orders, cents) = all.entry(country_of(order.customer).to_owned()).or_default();
        *orders += 1;
        *cents += order.cents;
    }
    all
}

/// The answer, from what the query gave.
pub fn turnover_of(batches: &[RecordBatch]) -> Result<Turnover> {
    let mut all = Turnover::new();
    for batch in batches {
        let countries =
            datafusion::arrow::compute::cast(batch.column(0), &datafusion::arrow::datatypes::DataType::Utf8)?;
        let countries = as_string_array(&countries)?;
        let number = |column: usize| {
            let numbers = batch.column(column).as_primitive_opt::<Int64Type>();
            numbers.ok_or_else(|| DataFusionError::Execution(format!("column {column} is not of whole numbers")))
        };
        let (orders, cents) = (number(1)?, number(2)?);
        for row in 0..batch.num_rows() {
            all.insert(countries.value(row).to_owned(), (orders.value(row), cents.value(row)));
        }
    }
    Ok(all)
}
