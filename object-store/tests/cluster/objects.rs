//! Objects: versions, conditions, ranges, directories in the way, rights.

use blockyard_object_store::{BlockyardStore, StoreOptions};
use client::{Client, ErrorCode, FsError};
use futures_util::TryStreamExt;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion,
};

use crate::{BLOCK_BYTES, Place, content, path};

#[tokio::test(flavor = "multi_thread")]
async fn every_version_has_its_tag_and_all_ways_to_ask_tell_it() {
    let place = Place::new().await;
    let at = path("a/b");
    let mut seen = Vec::new();
    for text in ["one", "two", "two"] {
        let put = place.store.put(&at, text.into()).await.unwrap().e_tag;
        assert!(put.is_some() && !seen.contains(&put));
        assert_eq!(place.store.head(&at).await.unwrap().e_tag, put);
        assert_eq!(place.store.get(&at).await.unwrap().meta.e_tag, put);
        let listed: Vec<_> = place.store.list(None).try_collect().await.unwrap();
        assert_eq!(listed[0].e_tag, put);
        assert_eq!(place.store.list_with_delimiter(Some(&path("a"))).await.unwrap().objects[0].e_tag, put);
        seen.push(put);
    }
    let mut upload = place.store.put_multipart(&at).await.unwrap();
    upload.put_part("three".into()).await.unwrap();
    let put = upload.complete().await.unwrap().e_tag;
    assert_eq!(place.store.head(&at).await.unwrap().e_tag, put);
    // The same object under another name is no other version.
    place.store.rename(&at, &path("c")).await.unwrap();
    assert_eq!(place.store.head(&path("c")).await.unwrap().e_tag, put);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_is_refused_and_changes_nothing() {
    let place = Place::new().await;
    let at = path("a");
    let first = place.store.put(&at, "old".into()).await.unwrap();
    let update = PutMode::Update(UpdateVersion::from(first));
    let error = place.store.put_opts(&at, "new".into(), update.into()).await.unwrap_err();
    assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
    let attributes = || Attributes::from_iter([(Attribute::ContentType, "text/csv")]);
    let error = place.store.put_opts(&at, "new".into(), attributes().into()).await.unwrap_err();
    assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
    let error = place.store.put_multipart_opts(&at, attributes().into()).await.unwrap_err();
    assert!(matches!(error, Error::NotImplemented { .. }), "{error}");
    let options = GetOptions::new().with_version(Some("1"));
    let error = place.store.get_opts(&at, options).await.unwrap_err();
    assert!(matches!(error, Error::NotSupported { .. }), "{error}");
    assert_eq!(place.read("a").await, b"old");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_create_one_succeeds() {
    let place = Place::new().await;
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..8_u8 {
        let store = place.store.clone();
        tries.spawn(async move {
            (number, store.put_opts(&path("t/lock"), vec![number].into(), PutMode::Create.into()).await)
        });
    }
    let mut winners = Vec::new();
    for (number, result) in tries.join_all().await {
        match result {
            Ok(_) => winners.push(number),
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(place.read("t/lock").await, winners);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_come_whole_over_blocks_windows_and_both_ways_to_read() {
    let place = Place::of_small_blocks().await;
    let all = content(11_000_003);
    place.put("big", &all).await;
    let at = path("big");
    assert_eq!(place.client().stat("/store/big").await.unwrap().block_size_bytes, BLOCK_BYTES);
    let (len, window) = (all.len() as u64, 4_u64 << 20);
    let cases = [
        GetRange::Bounded(0..1),
        GetRange::Bounded(BLOCK_BYTES - 1..BLOCK_BYTES + 1),
        GetRange::Bounded(7..window + 7),
        GetRange::Bounded(1..2 * window + 5),
        GetRange::Bounded(3..len),
        GetRange::Bounded(3..len + 10),
        GetRange::Offset(len - window - 1),
        GetRange::Suffix(window),
        GetRange::Suffix(window + 1),
    ];
    for range in cases {
        let result = place.store.get_opts(&at, GetOptions::new().with_range(Some(range.clone()))).await.unwrap();
        let wanted = range.as_range(len).unwrap();
        assert_eq!(result.range, wanted);
        let bytes = result.bytes().await.unwrap();
        assert!(bytes[..] == all[wanted.start as usize..wanted.end as usize], "{range}");
    }
    assert!(place.read("big").await == all);
    let ranges = [5..6, len - 3..len + 9, 100_000..200_000, 0..10, 150_000..150_001];
    let parts = place.store.get_ranges(&at, &ranges).await.unwrap();
    for (range, part) in ranges.iter().zip(parts) {
        assert!(part[..] == all[range.start as usize..range.end.min(len) as usize], "{range:?}");
    }
    assert!(place.store.get_ranges(&at, &[]).await.unwrap().is_empty());
    for wrong in [len..len + 1, 5..5] {
        assert!(place.store.get_ranges(&at, &[0..1, wrong]).await.is_err());
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_no_objects_and_stay() {
    let place = Place::new().await;
    let client = place.client();
    client.mkdir("/store/d/empty", 0o755, true).await.unwrap();
    place.put("d/full/x", b"x").await;
    for directory in ["d", "d/empty", "d/full", "d/full/x/below"] {
        let at = path(directory);
        let errors = [
            place.store.head(&at).await.map(drop).unwrap_err(),
            place.store.get(&at).await.map(drop).unwrap_err(),
            place.store.get_ranges(&at, std::slice::from_ref(&(0..1))).await.map(drop).unwrap_err(),
            place.store.delete(&at).await.unwrap_err(),
            place.store.copy(&at, &path("e")).await.unwrap_err(),
            place.store.rename(&at, &path("e")).await.unwrap_err(),
            place.store.rename(&at, &at).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::NotFound { .. }), "{directory}: {error}");
        }
    }
    assert_eq!(place.names("d").await, ["empty", "full"]);
    // Nor can one be replaced by an object, and nothing is put below an object.
    for location in ["d", "d/empty", "d/full/x/below"] {
        for mode in [PutMode::Overwrite, PutMode::Create] {
            let error = place.store.put_opts(&path(location), "new".into(), mode.into()).await.unwrap_err();
            assert!(matches!(error, Error::Generic { .. }), "{location}: {error}");
        }
    }
    assert_eq!(place.list(None).await, ["d/full/x"]);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_makes_directories_replaces_or_refuses() {
    let place = Place::new().await;
    place.put("a", b"a").await;
    place.put("b", b"b").await;
    let (a, b, deep) = (path("a"), path("b"), path("new/deep/a"));
    let error = place.store.rename_if_not_exists(&a, &b).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    let error = place.store.rename_if_not_exists(&a, &a).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    place.store.rename(&a, &a).await.unwrap();
    assert_eq!((place.read("a").await, place.read("b").await), (b"a".to_vec(), b"b".to_vec()));
    place.store.rename_if_not_exists(&a, &deep).await.unwrap();
    place.store.rename(&b, &deep).await.unwrap();
    assert_eq!(place.list(None).await, ["new/deep/a"]);
    assert_eq!(place.read("new/deep/a").await, b"b");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_large_and_empty_objects_are_whole() {
    let place = Place::of_small_blocks().await;
    let all = content(1_000_000);
    place.put("big", &all).await;
    place.store.put(&path("empty"), PutPayload::new()).await.unwrap();
    place.store.copy(&path("big"), &path("c/big")).await.unwrap();
    place.store.copy(&path("empty"), &path("c/big2")).await.unwrap();
    place.store.copy(&path("big"), &path("big")).await.unwrap();
    assert!(place.read("c/big").await == all && place.read("big").await == all);
    assert!(place.read("c/big2").await.is_empty());
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_directories_go_if_that_is_wanted_and_only_then() {
    let place = Place::new().await;
    let client = place.client();
    place.put("a/b/x", b"x").await;
    place.store.delete(&path("a/b/x")).await.unwrap();
    assert_eq!(place.names("a").await, ["b"]);

    let options = StoreOptions { remove_empty_directories: true, ..StoreOptions::default() };
    let tidy = place.store.clone().with_options(options);
    place.put("a/b/x", b"x").await;
    place.put("a/b/y", b"y").await;
    tidy.delete(&path("a/b/x")).await.unwrap();
    assert_eq!(place.names("a/b").await, ["y"]);
    tidy.rename(&path("a/b/y"), &path("z")).await.unwrap();
    assert_eq!(place.names("").await, ["z"]);
    tidy.delete(&path("z")).await.unwrap();
    assert!(client.stat("/store").await.is_ok(), "the root of the store stays");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_sees_its_directory_only_and_with_the_rights_of_its_user() {
    let place = Place::new().await;
    place.put("secret", b"s").await;
    let client = place.client();
    let other = BlockyardStore::below(client.clone(), "/other").unwrap();
    other.put(&path("mine"), "m".into()).await.unwrap();
    let names: Vec<_> = other.list(None).try_collect().await.unwrap();
    assert_eq!(names.iter().map(|meta| meta.location.as_ref()).collect::<Vec<_>>(), ["mine"]);
    assert!(other.head(&path("secret")).await.is_err());
    assert_eq!(BlockyardStore::new(client.clone()).head(&path("other/mine")).await.unwrap().size, 1);

    let mode = client::Attributes { mode: Some(0o600), ..client::Attributes::default() };
    client.set_attributes("/store/secret", &mode).await.unwrap();
    let eve = Client::builder().connect(place.cluster.uri()).user("eve").build().unwrap();
    let eve = BlockyardStore::below(eve, "/store").unwrap();
    let errors = [
        eve.get(&path("secret")).await.map(drop).unwrap_err(),
        eve.put(&path("hers"), "h".into()).await.map(drop).unwrap_err(),
        eve.delete(&path("secret")).await.unwrap_err(),
        eve.rename(&path("secret"), &path("x")).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<FsError>());
        assert_eq!(source.map(|refusal| refusal.code), Some(ErrorCode::PermissionDenied));
    }
    place.end().await;
}
