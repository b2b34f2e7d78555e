//! Uploads in parts, of both kinds.

use std::task::{Context, Waker};

use object_store::multipart::{MultipartStore, PartId};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload};

use crate::{BLOCK_BYTES, Place, content, path};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_one_file_of_full_blocks_however_its_parts_are_awaited() {
    let place = Place::of_small_blocks().await;
    let all = content(1_000_001);
    let mut upload = place.store.put_multipart(&path("t/big")).await.unwrap();
    let mut parts: Vec<_> = all.chunks(70_001).map(|part| upload.put_part(part.to_vec().into())).collect();
    // The last first, some not at all: they count all the same.
    parts.pop().unwrap().await.unwrap();
    drop(parts.pop());
    parts.remove(0).await.unwrap();
    drop(parts);
    assert!(place.list(None).await.is_empty(), "nothing is there before it is complete");
    upload.complete().await.unwrap();
    assert!(place.read("t/big").await == all);
    let blocks = place.client().open("/store/t/big").await.unwrap().blocks().len() as u64;
    assert_eq!(blocks, (all.len() as u64).div_ceil(BLOCK_BYTES));
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_ends_early_leaves_nothing_and_what_was_there_stays() {
    let place = Place::new().await;
    place.put("a", b"old").await;
    for abort in [true, false] {
        let mut upload = place.store.put_multipart(&path("a")).await.unwrap();
        upload.put_part("new".into()).await.unwrap();
        if abort {
            upload.abort().await.unwrap();
            assert!(upload.put_part("more".into()).await.is_err());
            assert!(upload.complete().await.is_err());
            assert!(upload.abort().await.is_err());
        }
        drop(upload);
        assert_eq!(place.read("a").await, b"old");
    }
    let mut upload = place.store.put_multipart(&path("empty")).await.unwrap();
    upload.complete().await.unwrap();
    assert!(upload.complete().await.is_err(), "only once");
    assert!(place.read("empty").await.is_empty());
    assert_eq!(place.names("").await, ["a", "empty"]);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_is_polled_and_then_left_alone_or_dropped_holds_nobody_up() {
    let place = Place::new().await;
    // More than the window of a writer: the first part waits in the middle.
    let (first, second) = (content(64 << 20), content(1000));
    for dropped in [false, true] {
        let mut upload = place.store.put_multipart(&path("a")).await.unwrap();
        let mut part = upload.put_part(first.clone().into());
        let mut context = Context::from_waker(Waker::noop());
        assert!(part.as_mut().poll(&mut context).is_pending());
        let left_alone = (!dropped).then_some(part);
        upload.put_part(second.clone().into()).await.unwrap();
        upload.complete().await.unwrap();
        assert!(place.read("a").await == [first.clone(), second.clone()].concat());
        drop(left_alone);
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_aborted_in_the_middle_of_a_part_that_nobody_polls() {
    let place = Place::new().await;
    place.put("a", b"old").await;
    let mut upload = place.store.put_multipart(&path("a")).await.unwrap();
    let mut part = upload.put_part(content(64 << 20).into());
    let mut context = Context::from_waker(Waker::noop());
    assert!(part.as_mut().poll(&mut context).is_pending());
    upload.abort().await.unwrap();
    assert!(part.await.is_err() && upload.complete().await.is_err());
    assert_eq!(place.read("a").await, b"old");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failure_of_a_part_is_that_of_the_upload() {
    let place = Place::new().await;
    let mut upload = place.store.put_multipart(&path("gone/a")).await.unwrap();
    upload.put_part("some".into()).await.unwrap();
    place.client().delete("/store/gone", true).await.unwrap();
    let error = upload.complete().await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(upload.complete().await.is_err());
    assert!(place.list(None).await.is_empty());
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_from_anywhere_are_joined_in_order_and_the_last_of_each_counts() {
    let place = Place::of_small_blocks().await;
    let (store, at) = (&place.store, path("t/joined"));
    place.put("t/joined", b"old").await;
    let id = store.create_multipart(&at).await.unwrap();
    // Another process knows the id and the location only.
    let other = place.store.clone();
    let mut parts = Vec::new();
    for number in [2, 0, 3, 1] {
        let data = if number == 3 { Vec::new() } else { vec![number as u8; 100_000] };
        parts.push((number, other.put_part(&at, &id, number, data.into()).await.unwrap()));
    }
    store.put_part(&at, &id, 1, b"again".to_vec().into()).await.unwrap();
    store.put_part(&at, &id, 9, "nobody asked for it".into()).await.unwrap();
    assert_eq!(place.list(None).await, ["t/joined"], "parts are no objects");
    assert_eq!(place.read("t/joined").await, b"old");
    assert!(store.list_with_delimiter(Some(&path("t"))).await.unwrap().common_prefixes.is_empty());
    parts.sort_by_key(|(number, _)| *number);
    let parts = parts.into_iter().map(|(_, part)| part).collect();
    let put = store.complete_multipart(&at, &id, parts).await.unwrap();
    assert_eq!(store.head(&at).await.unwrap().e_tag, put.e_tag);
    let expected = [vec![0; 100_000], b"again".to_vec(), vec![2; 100_000]].concat();
    assert!(place.read("t/joined").await == expected);
    assert_eq!(place.names("t").await, ["joined"], "nothing is left");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_a_snapshot_sees_are_copied_where_they_cannot_be_joined() {
    let place = Place::of_small_blocks().await;
    let (store, at) = (&place.store, path("t/joined"));
    place.client().mkdir("/store", 0o755, true).await.unwrap();
    place.client().allow_snapshots("/store", true).await.unwrap();
    let id = store.create_multipart(&at).await.unwrap();
    let mut parts = Vec::new();
    for number in 0..3_usize {
        if number == 2 {
            place.client().create_snapshot("/store", "s1").await.unwrap();
        }
        parts.push(store.put_part(&at, &id, number, vec![number as u8; 100_000].into()).await.unwrap());
    }
    let put = store.complete_multipart(&at, &id, parts).await.unwrap();
    assert_eq!(store.head(&at).await.unwrap().e_tag, put.e_tag);
    let expected = [vec![0; 100_000], vec![1; 100_000], vec![2; 100_000]].concat();
    assert!(place.read("t/joined").await == expected);
    assert_eq!(place.names("t").await, ["joined"], "nothing is left");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_of_files_leaves_nothing_and_strange_ids_reach_nothing() {
    let place = Place::new().await;
    let (store, at) = (&place.store, path("t/a"));
    let id = store.create_multipart(&at).await.unwrap();
    let part = store.put_part(&at, &id, 0, "x".into()).await.unwrap();
    let strange = PartId { content_id: "../../x".into() };
    assert!(store.complete_multipart(&at, &id, vec![strange]).await.is_err());
    store.abort_multipart(&at, &id).await.unwrap();
    assert!(place.names("t").await.is_empty());
    let errors = [
        store.abort_multipart(&at, &id).await.unwrap_err(),
        store.put_part(&at, &id, 1, "x".into()).await.map(drop).unwrap_err(),
        store.complete_multipart(&at, &id, vec![part]).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
    for id in ["", "../t", "a/b", ".."] {
        assert!(store.put_part(&at, &id.to_owned(), 0, "x".into()).await.is_err(), "{id}");
    }
    let hidden = path("t/.blockyard-upload-0/1");
    assert!(matches!(store.put(&hidden, PutPayload::new()).await, Err(Error::NotSupported { .. })));
    place.end().await;
}
