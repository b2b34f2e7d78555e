//! Listings: order, laziness, what is no object, pages.

use std::collections::BTreeSet;

use client::CreateOptions;
use futures_util::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{Error, ObjectStore, ObjectStoreExt};

use crate::{Place, path};

/// Names around the slash, and directories that share beginnings with files.
const NAMES: [&str; 12] =
    ["a b", "a!x/1", "a/1", "a/b/2", "a/b 3", "a-b/4", "a.b", "a0", "aa/5", "b", "t/day=01/part-0", "t/day=02/part-1"];

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_in_the_order_of_paths_from_any_offset() {
    let place = Place::new().await;
    for name in NAMES {
        place.put(name, b"x").await;
    }
    let all: BTreeSet<String> = NAMES.iter().map(ToString::to_string).collect();
    assert_eq!(place.list(None).await, all.iter().cloned().collect::<Vec<_>>());
    let offsets = NAMES.iter().copied().chain(["", "a", "a/", "a/b", "a ", "t/day=01", "t/day=01/z", "zz"]);
    for offset in offsets {
        for prefix in [None, Some("a"), Some("t"), Some("t/day=02"), Some("b"), Some("none")] {
            let at = path(offset);
            let found = place.store.list_with_offset(prefix.map(path).as_ref(), &at);
            let found: Vec<String> = found.map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
            let below = |name: &&String| prefix.is_none_or(|prefix| name.starts_with(&format!("{prefix}/")));
            let expected: Vec<&String> = all.iter().filter(|name| name.as_str() > at.as_ref()).filter(below).collect();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{prefix:?} after {offset:?}");
        }
    }
    let top = place.store.list_with_delimiter(None).await.unwrap();
    let names: Vec<_> = top.objects.iter().map(|meta| meta.location.as_ref()).collect();
    assert_eq!(names, ["a b", "a.b", "a0", "b"]);
    let prefixes: Vec<_> = top.common_prefixes.iter().map(AsRef::as_ref).collect();
    assert_eq!(prefixes, ["a!x", "a-b", "a", "aa", "t"]);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_size_name_each_object_once() {
    let place = Place::new().await;
    for name in NAMES {
        place.put(name, b"x").await;
    }
    for prefix in
        [None, Some(""), Some("a"), Some("a/"), Some("a/b"), Some("t/day="), Some("a b"), Some("x"), Some("/a")]
    {
        for (max_keys, delimited) in [(1, false), (2, true), (3, false), (5, true), (100, false), (100, true)] {
            let wanted = |name: &str| name.starts_with(prefix.unwrap_or_default());
            let cut = |name: &str| {
                let from = prefix.unwrap_or_default().len();
                let end = name[from..].find('/').filter(|_| delimited);
                end.map_or_else(|| name.to_owned(), |end| name[..from + end].to_owned())
            };
            let expected: BTreeSet<String> = NAMES.iter().filter(|name| wanted(name)).map(|name| cut(name)).collect();
            let mut found = Vec::new();
            let mut page_token = None;
            loop {
                let delimiter = delimited.then(|| "/".into());
                let options =
                    PaginatedListOptions { max_keys: Some(max_keys), delimiter, page_token, ..Default::default() };
                let page = place.store.list_paginated(prefix, options).await.unwrap();
                let before = found.len();
                found.extend(page.result.objects.into_iter().map(|meta| meta.location.to_string()));
                found.extend(page.result.common_prefixes.into_iter().map(|path| path.to_string()));
                assert!(found.len() - before <= max_keys);
                page_token = page.page_token;
                if page_token.is_none() {
                    break;
                }
                assert_eq!(found.len() - before, max_keys, "only the last page is short");
            }
            let unique: BTreeSet<String> = found.iter().cloned().collect();
            assert_eq!(unique, expected, "{prefix:?} {max_keys} {delimited}");
            assert_eq!(unique.len(), found.len(), "twice in pages: {found:?}");
        }
    }
    let options = PaginatedListOptions { delimiter: Some("=".into()), ..Default::default() };
    assert!(matches!(place.store.list_paginated(None, options).await, Err(Error::NotSupported { .. })));
    let options = PaginatedListOptions { offset: Some("a/b".into()), max_keys: Some(1), ..Default::default() };
    let page = place.store.list_paginated(None, options).await.unwrap();
    assert_eq!(page.result.objects[0].location, path("a/b 3"));
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_follows_links_to_files_and_goes_round_in_no_circles() {
    let place = Place::new().await;
    let client = place.client();
    place.put("d/file", b"12345").await;
    client.symlink("/store/d/link", "file", false).await.unwrap();
    client.symlink("/store/d/round", "/store/d", false).await.unwrap();
    client.symlink("/store/d/broken", "/nowhere", false).await.unwrap();
    let metas: Vec<_> = place.store.list(None).try_collect().await.unwrap();
    let told: Vec<_> = metas.iter().map(|meta| (meta.location.as_ref(), meta.size)).collect();
    assert_eq!(told, [("d/file", 5), ("d/link", 5)]);
    assert_eq!(metas[0].e_tag, metas[1].e_tag);
    // A location may lead through a link.
    assert_eq!(place.read("d/round/link").await, b"12345");
    place.store.delete(&path("d/link")).await.unwrap();
    assert_eq!(place.list(Some("d")).await, ["d/file"], "the link went, not the file");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_location_can_say_is_an_error_in_its_place() {
    let place = Place::new().await;
    place.put("a", b"x").await;
    place.put("c", b"x").await;
    let writer =
        place.client().create("/store/b\n", CreateOptions { empty: true, ..Default::default() }).await.unwrap();
    writer.close().await.unwrap();
    let found: Vec<_> = place.store.list(None).collect().await;
    assert_eq!(found.len(), 3);
    assert!(matches!(&found[1], Err(Error::InvalidPath { .. })), "{:?}", found[1]);
    assert_eq!(found[2].as_ref().unwrap().location, path("c"));
    place.end().await;
}

/// More than a page of the namenode's.
#[tokio::test(flavor = "multi_thread")]
async fn large_directories_are_listed_whole_and_only_as_far_as_they_are_read() {
    let place = Place::new().await;
    let client = place.client();
    client.mkdir("/store/many", 0o755, true).await.unwrap();
    let names: Vec<String> = (0..2500).map(|number| format!("f{number:05}")).collect();
    let make = |name: &String| {
        let (client, at) = (client.clone(), format!("/store/many/{name}"));
        async move {
            let options = CreateOptions { empty: true, ..CreateOptions::default() };
            client.create(&at, options).await.unwrap().close().await.unwrap();
        }
    };
    futures_util::stream::iter(names.iter().map(make)).buffer_unordered(64).collect::<Vec<_>>().await;
    let expected: Vec<String> = names.iter().map(|name| format!("many/{name}")).collect();
    assert_eq!(place.list(None).await, expected);
    let first: Vec<_> = place.store.list(None).take(3).try_collect().await.unwrap();
    assert_eq!(first[2].location, path("many/f00002"));
    let after = place.store.list_with_offset(None, &path("many/f02497"));
    let after: Vec<_> = after.map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    assert_eq!(after, expected[2498..]);
    assert_eq!(place.store.list_with_delimiter(Some(&path("many"))).await.unwrap().objects.len(), 2500);
    place.end().await;
}
