//! Several parts of a file at the same time, with a bound.

use base::task::JoinSet;
use bytes::{Bytes, BytesMut};
use proto::error::{ErrorCode, FsError, FsResult};

use super::race::RacedStream;
use super::ranges::Cut;

/// Reads all parts to their ends, `at_a_time` of them at most; the results are in the order of the parts. The first
/// failure ends the others. A single one is read where we are: a task costs more than a small read. `stream` opens a part
/// when its turn comes: which node is asked first, and whether a second one may be, depends on what the parts before met.
///
/// # Cancel safety
/// Dropping the future ends all reads.
pub(super) async fn read_all(
    parts: Vec<Cut>,
    at_a_time: usize,
    stream: impl Fn(Cut) -> RacedStream,
) -> FsResult<Vec<Bytes>> {
    if let [part] = parts[..] {
        return Ok(vec![read_whole(stream(part)).await?]);
    }
    let mut read = vec![Bytes::new(); parts.len()];
    let at_a_time = at_a_time.clamp(1, parts.len().max(1));
    let mut waiting = parts.into_iter().enumerate();
    let mut under_way = JoinSet::new();
    let mut start = |under_way: &mut JoinSet<_>| {
        if let Some((number, part)) = waiting.next() {
            let stream = stream(part);
            under_way.spawn(async move { (number, read_whole(stream).await) });
        }
    };
    (0..at_a_time).for_each(|_| start(&mut under_way));
    while let Some(joined) = under_way.join_next().await {
        let ended = |error| FsError::new(ErrorCode::Internal, format!("a task that reads ended early: {error}"));
        let (number, bytes) = joined.map_err(ended)?;
        let bytes = bytes?;
        if let Some(place) = read.get_mut(number) {
            *place = bytes;
        }
        start(&mut under_way);
    }
    Ok(read)
}

async fn read_whole(mut stream: RacedStream) -> FsResult<Bytes> {
    let mut pieces = Vec::new();
    while let Some(piece) = stream.next().await? {
        pieces.push(piece);
    }
    Ok(join(pieces))
}

/// One piece is passed on as it is.
pub(super) fn join(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        joined.extend_from_slice(&piece);
    }
    joined.freeze()
}
