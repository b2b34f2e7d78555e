//! Our Raft messages and the engine's, back and forth. The engine's own encoding is never used.
//!
//! Message kinds are numbered by docs/formats/raft.md. Proposals and reads are never forwarded between
//! members, and kinds that are local to the engine are never taken from the network.
#![deny(clippy::indexing_slicing)]

use proto::ids::ClusterId;
use proto::raft::{RaftEntry, RaftMessage, RaftSnapshot};
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};

use super::StepError;

/// Kind of an ordinary entry.
pub(super) const ENTRY_NORMAL: u32 = 0;

/// Kind of a message that carries a part of an image.
pub(super) const IMAGE: u32 = 7;

const KINDS: [(u32, MessageType); 10] = [
    (3, MessageType::MsgAppend),
    (4, MessageType::MsgAppendResponse),
    (5, MessageType::MsgRequestVote),
    (6, MessageType::MsgRequestVoteResponse),
    (IMAGE, MessageType::MsgSnapshot),
    (8, MessageType::MsgHeartbeat),
    (9, MessageType::MsgHeartbeatResponse),
    (14, MessageType::MsgTimeoutNow),
    (17, MessageType::MsgRequestPreVote),
    (18, MessageType::MsgRequestPreVoteResponse),
];

/// Turns an engine's message into ours. `None`: a kind that does not travel.
pub(super) fn to_wire(cluster: &ClusterId, mut message: Message) -> Option<RaftMessage> {
    let kind = KINDS.iter().find(|(_, kind)| *kind == message.get_msg_type()).map(|(number, _)| *number)?;
    let snapshot = message.snapshot.take().map(|snapshot| snapshot_to_wire(&snapshot));
    Some(RaftMessage {
        cluster: cluster.as_str().to_owned(),
        kind,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.take_entries().into_iter().map(entry_to_wire).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: if kind == IMAGE { snapshot } else { None },
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.take_context(),
        priority: message.priority,
    })
}

/// Turns our message into the engine's, checking what the engine would otherwise stop the process for.
pub(super) fn from_wire(message: RaftMessage) -> Result<Message, StepError> {
    let kind = KINDS.iter().find(|(number, _)| *number == message.kind).map(|(_, kind)| *kind);
    let kind = kind.ok_or(StepError::Malformed("unknown kind"))?;
    if message.term == 0 {
        return Err(StepError::Malformed("term 0"));
    }
    let mut next = message.index;
    let mut entries = Vec::new();
    for entry in message.entries {
        next = next.checked_add(1).ok_or(StepError::Malformed("index out of range"))?;
        if kind != MessageType::MsgAppend || entry.index != next || entry.kind != ENTRY_NORMAL {
            return Err(StepError::Malformed("entries do not belong to the message"));
        }
        entries.push(entry_from_wire(entry));
    }
    let mut out = Message::default();
    match (kind, &message.snapshot) {
        (MessageType::MsgSnapshot, Some(snapshot)) if snapshot.index != 0 => {
            out.set_snapshot(snapshot_from_wire(snapshot));
        }
        (MessageType::MsgSnapshot, _) => return Err(StepError::Malformed("an image of nothing")),
        _ => {}
    }
    out.set_msg_type(kind);
    out.to = message.to;
    out.from = message.from;
    out.term = message.term;
    out.log_term = message.log_term;
    out.index = message.index;
    out.set_entries(entries.into());
    out.commit = message.commit;
    out.commit_term = message.commit_term;
    out.request_snapshot = message.request_snapshot;
    out.reject = message.reject;
    out.reject_hint = message.reject_hint;
    out.context = message.context;
    out.priority = message.priority;
    Ok(out)
}

pub(super) fn entry_to_wire(mut entry: Entry) -> RaftEntry {
    RaftEntry {
        term: entry.term,
        index: entry.index,
        kind: ENTRY_NORMAL,
        data: entry.take_data(),
        context: entry.take_context(),
    }
}

pub(super) fn entry_from_wire(entry: RaftEntry) -> Entry {
    let mut out = Entry::default();
    out.set_entry_type(EntryType::EntryNormal);
    out.term = entry.term;
    out.index = entry.index;
    out.data = entry.data;
    out.context = entry.context;
    out
}

fn snapshot_to_wire(snapshot: &Snapshot) -> RaftSnapshot {
    let metadata = snapshot.get_metadata();
    RaftSnapshot {
        index: metadata.index,
        term: metadata.term,
        voters: metadata.get_conf_state().voters.clone(),
        learners: metadata.get_conf_state().learners.clone(),
        ..RaftSnapshot::default()
    }
}

fn snapshot_from_wire(snapshot: &RaftSnapshot) -> Snapshot {
    let mut members = ConfState::default();
    members.voters.clone_from(&snapshot.voters);
    members.learners.clone_from(&snapshot.learners);
    let mut out = Snapshot::default();
    let metadata = out.mut_metadata();
    metadata.index = snapshot.index;
    metadata.term = snapshot.term;
    metadata.set_conf_state(members);
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn cluster() -> ClusterId {
        ClusterId::new("1")
    }

    #[test]
    fn appends_and_images_round_trip() {
        let entry = |index| RaftEntry {
            term: 2,
            index,
            kind: 0,
            data: Bytes::from_static(b"d"),
            context: Bytes::from_static(b"c"),
        };
        let append = RaftMessage {
            cluster: "CID-1".to_owned(),
            kind: 3,
            to: 1,
            from: 2,
            term: 3,
            log_term: 2,
            index: 7,
            entries: vec![entry(8), entry(9)],
            commit: 6,
            commit_term: 2,
            reject: true,
            reject_hint: 4,
            context: Bytes::from_static(b"x"),
            priority: -1,
            ..RaftMessage::default()
        };
        let image = RaftMessage {
            cluster: "CID-1".to_owned(),
            kind: 7,
            term: 1,
            snapshot: Some(RaftSnapshot { index: 5, term: 1, voters: vec![1, 2], ..RaftSnapshot::default() }),
            ..RaftMessage::default()
        };
        for message in [append, image] {
            let back = from_wire(message.clone()).ok().and_then(|m| to_wire(&cluster(), m));
            assert_eq!(back, Some(message));
        }
    }

    #[test]
    fn messages_that_would_stop_the_engine_are_refused() {
        let base = RaftMessage { kind: 3, term: 1, ..RaftMessage::default() };
        let entry = |index, kind| RaftEntry { index, kind, term: 1, ..RaftEntry::default() };
        let bad = [
            RaftMessage { kind: 0, ..base.clone() },
            RaftMessage { kind: 2, ..base.clone() },
            RaftMessage { kind: 15, ..base.clone() },
            RaftMessage { term: 0, ..base.clone() },
            RaftMessage { index: 4, entries: vec![entry(4, 0)], ..base.clone() },
            RaftMessage { index: u64::MAX, entries: vec![entry(0, 0)], ..base.clone() },
            RaftMessage { entries: vec![entry(1, 1)], ..base.clone() },
            RaftMessage { kind: 8, entries: vec![entry(1, 0)], ..base.clone() },
            RaftMessage { kind: 7, ..base },
        ];
        for message in bad {
            assert!(from_wire(message.clone()).is_err(), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn every_kind_round_trips(at in 0..KINDS.len(), numbers in any::<[u32; 8]>(), reject: bool) {
            let [to, from, log_term, index, commit, commit_term, request_snapshot, reject_hint] = numbers.map(u64::from);
            let kind = KINDS[at].0;
            let snapshot = RaftSnapshot { index: index + 1, term: 1, voters: vec![1, 2], ..RaftSnapshot::default() };
            let message = RaftMessage {
                cluster: "CID-1".to_owned(),
                kind,
                to,
                from,
                term: 7,
                log_term,
                index,
                commit,
                commit_term,
                snapshot: (kind == IMAGE).then_some(snapshot),
                request_snapshot,
                reject,
                reject_hint,
                ..RaftMessage::default()
            };
            let bytes = message.encode_to_vec();
            let back = RaftMessage::decode(bytes.as_slice()).ok().and_then(|m| from_wire(m).ok());
            prop_assert_eq!(back.and_then(|m| to_wire(&cluster(), m)), Some(message));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = RaftMessage::decode(bytes.as_slice()) {
                drop(from_wire(message));
            }
        }
    }
}
