use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::common::ErrorDetail;

/// A frame by value.
type Owned = (Head, Vec<u8>);

fn drain(decoder: &mut Decoder, out: &mut Vec<Owned>) -> Result<(), Broken> {
    while let Some(frame) = decoder.next_frame()? {
        out.push((frame.head, frame.message.to_vec()));
    }
    Ok(())
}

/// Feeds pieces of these lengths in turn, then the rest.
fn fed(side: Side, bytes: &[u8], pieces: &[usize]) -> (Vec<Owned>, Result<(), Broken>) {
    let (mut decoder, mut out, mut rest) = (Decoder::new(side), Vec::new(), bytes);
    for piece in pieces.iter().copied().chain([usize::MAX]) {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        decoder.buffer().extend_from_slice(now);
        rest = later;
        if let Err(broken) = drain(&mut decoder, &mut out) {
            assert_eq!(decoder.next_frame(), Err(broken.clone()), "broken is for ever");
            return (out, Err(broken));
        }
    }
    (out, Ok(()))
}

fn stream(frames: &[(Head, ErrorDetail)]) -> Vec<u8> {
    let mut bytes = preamble().to_vec();
    for (head, detail) in frames {
        put(&mut bytes, *head, detail).unwrap();
    }
    bytes
}

fn detail(message: String) -> ErrorDetail {
    ErrorDetail { message, ..ErrorDetail::default() }
}

fn frames_of(side: Side) -> impl Strategy<Value = Vec<(Head, ErrorDetail)>> {
    let kinds = match side {
        Side::Server => vec![Kind::Request, Kind::Cancel],
        Side::Client => vec![Kind::Answer, Kind::Refusal, Kind::GoingAway],
    };
    let head = (any::<u64>(), proptest::sample::select(kinds), any::<u32>());
    let head = head.prop_map(|(call, kind, method)| Head { call, kind, method });
    proptest::collection::vec((head, ".{0,200}".prop_map(detail)), 0..8)
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_frames(
        frames in frames_of(Side::Server),
        pieces in proptest::collection::vec(0_usize..70, 0..60),
    ) {
        let wanted: Vec<Owned> = frames.iter().map(|(head, detail)| (*head, detail.encode_to_vec())).collect();
        prop_assert_eq!(fed(Side::Server, &stream(&frames), &pieces), (wanted, Ok(())));
    }

    #[test]
    fn frames_of_a_server_are_read_by_a_client_only(frames in frames_of(Side::Client)) {
        let bytes = stream(&frames);
        prop_assert_eq!(fed(Side::Client, &bytes, &[]).0.len(), frames.len());
        let refused = matches!(fed(Side::Server, &bytes, &[]), (none, Err(Broken::Kind(_))) if none.is_empty());
        prop_assert!(refused || frames.is_empty());
    }

    #[test]
    fn garbage_is_refused_and_never_believed(
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        greeted: bool,
        pieces in proptest::collection::vec(0_usize..70, 0..9),
    ) {
        let mut bytes = if greeted { preamble().to_vec() } else { Vec::new() };
        bytes.extend(&garbage);
        for side in [Side::Server, Side::Client] {
            // A right checksum by accident is one case in four milliards.
            prop_assert_eq!(fed(side, &bytes, &pieces).0, vec![]);
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(frames in frames_of(Side::Server), at: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = stream(&frames);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (read, end) = fed(Side::Server, &bytes, &[]);
        // A length that grew may make the decoder wait for more; what was read before the flip is whole.
        prop_assert!(end.is_err() || read.len() < frames.len());
        for ((head, message), (sent, detail)) in read.iter().zip(&frames) {
            prop_assert_eq!((head, message), (sent, &detail.encode_to_vec()));
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_format_page() {
    let mut bytes = preamble().to_vec();
    put(&mut bytes, Head { call: 1, kind: Kind::Request, method: 10 }, &detail("a".to_owned())).unwrap();
    put_bare(&mut bytes, Head { call: 1, kind: Kind::Cancel, method: 0 });
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        "62796b3101000000",
        "d911d4d6030000000100000000000000010000000a000000120161",
        "add9d46f0000000001000000000000000400000000000000",
    ];
    // Made by another program.
    assert_eq!(hex, parts.concat());
}

#[test]
fn lengths_are_refused_before_the_bytes_come() {
    for (side, limit_bytes) in [(Side::Server, MAX_REQUEST_BYTES), (Side::Client, MAX_ANSWER_BYTES)] {
        for (claimed, refused) in [(limit_bytes, false), (limit_bytes + 1, true), (u32::MAX as usize, true)] {
            let mut bytes = preamble().to_vec();
            bytes.extend([0; 4]);
            bytes.extend((claimed as u32).to_le_bytes());
            bytes.extend([0; 16]);
            let mut decoder = Decoder::new(side);
            decoder.buffer().extend_from_slice(&bytes);
            let expected = Broken::TooLong { len_bytes: claimed as u64, limit_bytes };
            assert_eq!(decoder.next_frame(), if refused { Err(expected) } else { Ok(None) });
            assert!(decoder.buffer().capacity() < 4096, "nothing is set aside for a claim");
        }
    }
    let long = detail("x".repeat(MAX_REQUEST_BYTES));
    let mut out = vec![7];
    let put = put(&mut out, Head { call: 1, kind: Kind::Request, method: 1 }, &long);
    assert!(matches!(put, Err(Broken::TooLong { .. })));
    assert_eq!(out, [7], "nothing was appended");
}

#[test]
fn strangers_and_other_versions_are_told_apart() {
    let read = |bytes: &[u8]| fed(Side::Server, bytes, &[]).1;
    assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(Broken::Stranger(*b"GET ")));
    assert_eq!(read(b"x"), Err(Broken::Stranger([b'x', 0, 0, 0])));
    assert_eq!(read(b"byk1\x02\0\0\0"), Err(Broken::Version(2)));
    assert_eq!(read(b"byk1\x01\0\0"), Ok(()));
    assert!(Broken::Version(2).to_string().contains("version 2"));
}
