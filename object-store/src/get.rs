//! Reading objects.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use client::Reader;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Attributes, Error, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result};

use crate::error::{Doing, not_found, refused, wrong};
use crate::place::{is_file, meta};
use crate::store::BlockyardStore;

/// Bytes of a range that are asked for at once, and come as one piece.
const WINDOW_BYTES: u64 = 4 << 20;
/// Windows of a range that are under way at the same time.
const WINDOWS: usize = 2;

impl BlockyardStore {
    pub(crate) async fn get_object(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.version.is_some() {
            return Err(Error::NotSupported { source: "objects have no versions here".into() });
        }
        if options.head {
            let meta = self.head_of(location).await?;
            options.check_preconditions(&meta)?;
            let range = range_of(options.range.as_ref(), meta.size)?;
            return Ok(result(meta, range, stream::empty().boxed()));
        }
        let reader = self.open(location).await?;
        let meta = meta(location.clone(), reader.status());
        options.check_preconditions(&meta)?;
        let range = range_of(options.range.as_ref(), meta.size)?;
        let bytes = bytes_of(reader, range.clone(), location.clone());
        Ok(result(meta, range, bytes))
    }

    async fn head_of(&self, location: &Path) -> Result<ObjectMeta> {
        let status = self.client().stat(&self.root().path_of(location)?).await;
        let status = status.map_err(|error| refused(error, location, Doing::Reading))?;
        if !is_file(&status) {
            return Err(not_found(location, "a directory has this name"));
        }
        Ok(meta(location.clone(), &status))
    }

    /// All of them of the same version of the object; neighbours are read together, in parallel.
    pub(crate) async fn get_parts(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let reader = self.open(location).await?;
        let whole = |range: &Range<u64>| range_of(Some(&GetRange::Bounded(range.clone())), reader.len_bytes());
        let ranges = ranges.iter().map(whole).collect::<Result<Vec<_>>>()?;
        reader.read_ranges(&ranges).await.map_err(|error| refused(error, location, Doing::Reading))
    }

    pub(crate) async fn open(&self, location: &Path) -> Result<Reader> {
        let opened = self.client().open(&self.root().path_of(location)?).await;
        opened.map_err(|error| refused(error, location, Doing::Reading))
    }
}

fn result(meta: ObjectMeta, range: Range<u64>, bytes: BoxStream<'static, Result<Bytes>>) -> GetResult {
    GetResult { payload: GetResultPayload::Stream(bytes), meta, range, attributes: Attributes::new() }
}

/// The bytes that a range means in an object of a size.
fn range_of(range: Option<&GetRange>, size: u64) -> Result<Range<u64>> {
    range.map_or(Ok(0..size), |range| range.as_range(size)).map_err(wrong)
}

fn bytes_of(reader: Reader, range: Range<u64>, location: Path) -> BoxStream<'static, Result<Bytes>> {
    let long = range.end - range.start > WINDOW_BYTES;
    // To the end the reader goes by itself, and ahead. Elsewhere it would go on where nobody wants to.
    let bytes = if long && range.end == reader.len_bytes() {
        in_sequence(reader, range.start)
    } else {
        in_windows(reader, range)
    };
    bytes.map_err(move |error| refused(error, &location, Doing::Reading)).boxed()
}

type Pieces = BoxStream<'static, client::FsResult<Bytes>>;

fn in_sequence(mut reader: Reader, from: u64) -> Pieces {
    reader.seek(from);
    stream::try_unfold(reader, async |mut reader| Ok(reader.next().await?.map(|bytes| (bytes, reader)))).boxed()
}

fn in_windows(reader: Reader, range: Range<u64>) -> Pieces {
    let reader = Arc::new(reader);
    let read = move |window: Range<u64>| {
        let reader = Arc::clone(&reader);
        // No longer than a window: that fits.
        async move { reader.read_exact_at(window.start, (window.end - window.start) as usize).await }
    };
    stream::iter(windows(range)).map(read).buffered(WINDOWS).boxed()
}

/// A range in pieces.
fn windows(range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    let Range { start, end } = range;
    let starts = std::iter::successors(Some(start), |at| at.checked_add(WINDOW_BYTES));
    starts.take_while(move |at| *at < end).map(move |at| at..at.saturating_add(WINDOW_BYTES).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_a_range_exactly() {
        for range in [0..0, 5..5, 5..6, 3..3 + WINDOW_BYTES, 3..4 + WINDOW_BYTES, 0..10 * WINDOW_BYTES + 1] {
            let mut at = range.start;
            for window in windows(range.clone()) {
                assert!(window.start == at && window.end > at && window.end - at <= WINDOW_BYTES);
                at = window.end;
            }
            assert_eq!(at, range.end);
        }
        assert_eq!(windows(u64::MAX - 1..u64::MAX).count(), 1);
    }

    #[test]
    fn ranges_are_cut_at_the_end_and_refused_behind_it() {
        let of = |range: GetRange| range_of(Some(&range), 10);
        assert_eq!(of(GetRange::Bounded(2..100)).unwrap(), 2..10);
        assert_eq!(of(GetRange::Suffix(3)).unwrap(), 7..10);
        assert_eq!(of(GetRange::Suffix(30)).unwrap(), 0..10);
        assert_eq!(of(GetRange::Offset(4)).unwrap(), 4..10);
        assert_eq!(range_of(None, 10).unwrap(), 0..10);
        for wrong in [GetRange::Bounded(10..11), GetRange::Bounded(3..3), GetRange::Offset(10)] {
            assert!(matches!(of(wrong), Err(Error::Generic { .. })));
        }
    }
}
