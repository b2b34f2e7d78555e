//! Columns.

/// Lines with aligned columns; `right` names the columns that are aligned to the right.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if c > 0 {
                line.push_str("  ");
            }
            push_padded(&mut line, cell, *width, right.contains(&c));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Names in as many columns as fit a line of `width` characters, down the first column, then the next.
pub(crate) fn columns(names: &[String], width: usize) -> String {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let per_line = ((width + 2) / (longest + 2)).max(1);
    let lines = names.len().div_ceil(per_line);
    let mut out = String::new();
    for line in 0..lines {
        let from = out.len();
        for name in names.iter().skip(line).step_by(lines) {
            push_padded(&mut out, name, longest + 2, false);
        }
        out.truncate(from + out.get(from..).unwrap_or_default().trim_end().len());
        out.push('\n');
    }
    out
}

/// Appends a cell with spaces up to a width, in front of it if it is aligned to the right.
pub(crate) fn push_padded(out: &mut String, cell: &str, width: usize, right: bool) {
    // Counting bytes is enough for most cells, and quicker.
    let length = if cell.is_ascii() { cell.len() } else { cell.chars().count() };
    let gap = width.saturating_sub(length);
    if !right {
        out.push_str(cell);
    }
    out.extend(std::iter::repeat_n(' ', gap));
    if right {
        out.push_str(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_in_columns() {
        let rows = [["a", "1", "x"], ["bb", "10", "…"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, &[1]), "a    1  x\nbb  10  …\n");
    }

    #[test]
    fn names_run_down_the_columns() {
        let names = ["a", "bbb", "c", "d", "e"].map(str::to_owned);
        assert_eq!(columns(&names, 13), "a    c    e\nbbb  d\n");
        assert_eq!(columns(&names, 1), "a\nbbb\nc\nd\ne\n");
        assert_eq!(columns(&[], 80), "");
    }
}
