//! object_store's public integration suite, all of it, each part on a cluster of its own.

use object_store::integration as suite;
use object_store::{Error, path::Path};

use crate::Place;

macro_rules! parts_of_the_suite {
    ($($name:ident($($argument:expr),*);)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let place = Place::new().await;
                suite::$name(&place.store $(, $argument)*).await;
                place.end().await;
            }
        )*
    };
}

parts_of_the_suite! {
    put_get_delete_list();
    put_get_attributes();
    get_opts();
    // There is no replacing "if it is still this version".
    put_opts(false);
    stream_get();
    list_uses_directories_correctly();
    list_with_delimiter();
    list_with_offset_exclusivity();
    rename_and_copy();
    copy_if_not_exists();
    copy_rename_nonexistent_object();
    // The last one to be completed wins.
    multipart_race_condition(true);
    multipart_out_of_order();
}

#[tokio::test(flavor = "multi_thread")]
async fn get_nonexistent_object() {
    let place = Place::new().await;
    for location in [None, Some(Path::from("a/b/c"))] {
        let error = suite::get_nonexistent_object(&place.store, location).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart() {
    let place = Place::new().await;
    suite::multipart(&place.store, &place.store).await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_paginated() {
    let place = Place::new().await;
    suite::list_paginated(&place.store, &place.store).await;
    place.end().await;
}

/// As one store after another is tested elsewhere: what one part leaves must not harm the next.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_suite_on_one_store() {
    let place = Place::new().await;
    let store = &place.store;
    suite::put_get_delete_list(store).await;
    suite::get_opts(store).await;
    suite::list_uses_directories_correctly(store).await;
    suite::list_with_delimiter(store).await;
    suite::rename_and_copy(store).await;
    suite::copy_if_not_exists(store).await;
    suite::copy_rename_nonexistent_object(store).await;
    suite::stream_get(store).await;
    suite::put_opts(store, false).await;
    suite::multipart(store, store).await;
    suite::multipart_race_condition(store, true).await;
    suite::multipart_out_of_order(store).await;
    suite::list_with_offset_exclusivity(store).await;
    suite::list_paginated(store, store).await;
    place.end().await;
}
