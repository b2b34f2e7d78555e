//! Pipelines that break and go on, over real sockets: the client is a few lines, everything else is what ships.

use transfer::ack::CLOSE_RECOVERY_SEQNO;
use transfer::catch_up::TransferReply;
use transfer::{Progress, ReplicaStateSetup, TransferSetup, WriteStage};

use super::*;

fn stamp(n: u64) -> GenerationStamp {
    GenerationStamp::from_raw(GenerationStamp::FIRST.raw() + n)
}

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 13 + i / 512) as u8).collect()
}

/// Ends of packets: inside chunks, on their borders, one byte beyond.
const ENDS: [usize; 6] = [300, 512, 700, 1024, 1537, 3000];

/// The packets of a writer that flushes after each: every one begins at the start of the chunk that the last one ended in.
fn packets(whole: &[u8], sync: bool) -> Vec<Packet> {
    let mut packets = Vec::new();
    for (number, end) in ENDS.iter().enumerate() {
        let before = if number == 0 { 0 } else { ENDS[number - 1] };
        let start = before / 512 * 512;
        let mut packet =
            Packet::with_data(FORMAT, number as i64, start as u64, Bytes::copy_from_slice(&whole[start..*end]));
        packet.head.sync = sync;
        packets.push(packet);
    }
    packets.push(Packet::last(ENDS.len() as i64, whole.len() as u64, true));
    packets
}

impl Bench {
    fn wide_token(&self, block: &BlockRef, modes: &[Mode]) -> Bytes {
        let claims = Claims {
            pool: block.pool.clone(),
            block: block.id,
            floor: block.stamp,
            ceiling: stamp(9),
            modes: modes.to_vec(),
            user: "ana".into(),
            expires_ms: i64::MAX,
        };
        let nodes: Vec<NodeId> = self.nodes.iter().map(|node| node.node.clone()).collect();
        token::mint(&master(), 1, &claims, &nodes)
    }
    /// Sets a pipeline up that goes on with a block.
    fn resume(
        &self,
        block: &BlockRef,
        targets: &[Target],
        (stage, new): (WriteStage, u64),
        lengths: (usize, usize),
    ) -> (TcpStream, BlockOpResponse) {
        let token = self.wide_token(block, &[Mode::Write]);
        let lengths = (lengths.0 as u64, lengths.1 as u64);
        let setup = WriteSetup::create(block.clone(), token, "test".into(), targets, FORMAT).unwrap();
        let setup = setup.resume(stage, stamp(new), lengths);
        let mut stream = connect(targets[0].transfer_port);
        stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
        let answer = reply::read(&mut stream).unwrap();
        (stream, answer)
    }
    fn transfer(&self, block: &BlockRef, (from, to): (usize, usize), len_bytes: usize, new: u64) -> TransferReply {
        let setup = TransferSetup {
            block: BlockRef { len_bytes: len_bytes as u64, ..block.clone() },
            token: self.wide_token(block, &[Mode::Write]),
            client_name: "test".into(),
            targets: vec![self.target(to)],
            new_stamp: Some(stamp(new)),
        };
        let mut stream = connect(self.nodes[from].address.port());
        stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
        loop {
            match TransferReply::from_wire(&reply::read(&mut stream).unwrap()) {
                TransferReply::Going => {}
                said => return said,
            }
        }
    }
    fn progress(&self, block: &BlockRef, node: usize) -> Result<Progress, Status> {
        let setup = ReplicaStateSetup { block: block.clone(), token: self.token(block, Mode::Read) };
        let mut stream = connect(self.nodes[node].address.port());
        stream.write_all(&setup.to_op().unwrap().encode()).unwrap();
        let answer = reply::read(&mut stream).unwrap();
        match reply::status_of(&answer) {
            Status::Success => Ok(Progress::from_reply(&answer).unwrap()),
            refused => Err(refused),
        }
    }
}

const STREAMING: WriteStage = WriteStage::PipelineSetupStreamingRecovery;

fn good(answer: &BlockOpResponse) {
    assert_eq!(reply::status_of(answer), Status::Success, "{answer:?}");
}

/// Sends packets and takes the ack of each; the last one.
fn send_all(stream: &mut TcpStream, packets: &[Packet]) -> Option<Ack> {
    let mut last = None;
    for packet in packets {
        send(stream, packet);
        let ack = Ack::read(stream).unwrap();
        assert_eq!((ack.seqno, ack.first_bad()), (packet.head.seqno, None), "{ack:?}");
        last = Some(ack);
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_34_a_connection_killed_at_every_packet_is_resumed_on_the_survivors_with_equal_bytes() {
    let bench = Bench::of(3, "BP-1", 64).await;
    let (whole, targets) = (data(3000), bench.targets());
    let sent = packets(&whole, false);
    for acked in 0..=ENDS.len() {
        // Of the packets behind, none or one more may have arrived somewhere.
        for more in 0..2_usize {
            let block = block((acked * 2 + more) as i64);
            let (mut stream, answer) = bench.open_write(&block, &targets);
            good(&answer);
            send_all(&mut stream, &sent[..acked]);
            sent[acked..].iter().take(more).for_each(|packet| send(&mut stream, packet));
            drop(stream);
            let min = if acked == 0 { 0 } else { ENDS[acked - 1] };
            let max = if acked + more == 0 { 0 } else { ENDS[(acked + more - 1).min(ENDS.len() - 1)] };
            // The node in the middle is lost. Its neighbours go on, whether they have heard of it or not.
            let left = [targets[0].clone(), targets[2].clone()];
            let (mut stream, answer) = bench.resume(&block, &left, (STREAMING, 1), (min, max));
            good(&answer);
            let last = send_all(&mut stream, &sent[acked..]).unwrap();
            assert_eq!(last.receipts.len(), 2, "{acked} {more}");
            assert!(last.receipts.iter().all(|receipt| receipt.stamp == stamp(1).raw()), "{last:?}");
            for node in [0, 2] {
                assert!(bench.read(&block, node, 3000).unwrap() == whole, "{acked} {more} node {node}");
            }
            // Whoever has the old stamp is out.
            let (_, answer) = bench.resume(&block, &left, (STREAMING, 0), (min, max));
            assert_ne!(reply::status_of(&answer), Status::Success);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d_2_a_new_node_is_brought_up_to_date_and_takes_the_place_of_the_lost_one() {
    let bench = Bench::of(3, "BP-1", 64).await;
    let (whole, targets) = (data(3000), bench.targets());
    let sent = packets(&whole, true);
    for acked in 1..ENDS.len() {
        let block = block(acked as i64);
        let (mut stream, answer) = bench.open_write(&block, &targets[..2]);
        good(&answer);
        send_all(&mut stream, &sent[..acked]);
        let min = ENDS[acked - 1];
        // The writer's connection still stands: the transfer does not need it to end.
        assert_eq!(bench.transfer(&block, (0, 2), min, 1), TransferReply::Done);
        let more = bench.transfer(&block, (0, 2), min + 1, 2);
        assert!(matches!(more, TransferReply::Failed { status: Status::ErrorInvalid, .. }), "{more:?}");
        let left = [targets[0].clone(), targets[2].clone()];
        let (mut resumed, answer) = bench.resume(&block, &left, (STREAMING, 1), (min, 3000));
        good(&answer);
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the old connection was ended");
        let last = send_all(&mut resumed, &sent[acked..]).unwrap();
        assert_eq!(last.receipts.len(), 2);
        for node in [0, 2] {
            assert!(bench.read(&block, node, 3000).unwrap() == whole, "{acked} node {node}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_36_a_transfer_of_nothing_and_a_pipeline_with_a_node_that_has_nothing_work() {
    let bench = Bench::of(3, "BP-1", 64).await;
    let (whole, targets) = (data(3000), bench.targets());
    let sent = packets(&whole, false);
    let (_stream, answer) = bench.open_write(&block(1), &targets[..2]);
    good(&answer);
    assert_eq!(bench.transfer(&block(1), (0, 2), 0, 1), TransferReply::Done);
    let left = [targets[0].clone(), targets[2].clone()];
    let (mut resumed, answer) = bench.resume(&block(1), &left, (STREAMING, 1), (0, 3000));
    good(&answer);
    send_all(&mut resumed, &sent).unwrap();
    assert!(bench.read(&block(1), 2, 3000).unwrap() == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_37_a_transfer_names_the_node_that_cannot_be_reached() {
    let bench = Bench::of(2, "BP-1", 64).await;
    let (mut stream, answer) = bench.open_write(&block(1), &bench.targets()[..1]);
    good(&answer);
    send_all(&mut stream, &packets(&data(3000), false)[..1]);
    let link = bench.target(1).link();
    bench.nodes[1].shutdown.cancel();
    let port = bench.nodes[1].address.port();
    eventually("the target to go", || TcpStream::connect(("127.0.0.1", port)).is_err()).await;
    let failed = bench.transfer(&block(1), (0, 1), 300, 1);
    assert!(matches!(&failed, TransferReply::Failed { bad_link, .. } if *bad_link == link), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn v_1_acknowledged_bytes_of_an_open_block_are_told_and_read_from_every_node() {
    let bench = Bench::of(3, "BP-1", 64).await;
    let (whole, targets) = (data(3000), bench.targets());
    let (mut stream, answer) = bench.open_write(&block(1), &targets);
    good(&answer);
    for (number, packet) in packets(&whole, false)[..ENDS.len()].iter().enumerate() {
        send_all(&mut stream, std::slice::from_ref(packet));
        for node in 0..3 {
            let told = bench.progress(&block(1), node).unwrap();
            let seen = ENDS[number] as u64;
            assert_eq!((told.acked_bytes, told.stored_bytes, told.received_bytes), (seen, seen, seen), "node {node}");
            assert!(!told.finalized && !told.waiting);
            assert!(bench.read(&block(1), node, seen).unwrap() == whole[..ENDS[number]], "node {node}");
            assert!(bench.read(&block(1), node, seen + 1).is_err(), "nothing beyond it");
        }
    }
    drop(stream);
    eventually("the writer to be gone", || (0..3).all(|node| bench.progress(&block(1), node).unwrap().waiting)).await;
    assert_eq!(bench.progress(&block(1), 0).unwrap().acked_bytes, 3000);
    let newer = BlockRef { stamp: stamp(1), ..block(1) };
    assert_eq!(bench.progress(&newer, 0), Err(Status::Error));
    assert_eq!(bench.progress(&block(2), 0), Err(Status::Error));
}

#[tokio::test(flavor = "multi_thread")]
async fn d_6_an_append_inside_a_chunk_goes_through_three_nodes_and_is_closed_again_after_a_failure() {
    let bench = Bench::of(3, "BP-1", 64).await;
    let (whole, targets) = (data(2000), bench.targets());
    bench.write(&block(1), &targets, &whole[..700]);
    let append = WriteStage::PipelineSetupAppend;
    let (_, answer) = bench.resume(&block(1), &targets, (append, 1), (699, 699));
    assert_ne!(reply::status_of(&answer), Status::Success, "SC-29");
    let (mut stream, answer) = bench.resume(&block(1), &targets, (append, 1), (700, 700));
    good(&answer);
    let part = |seqno, from: usize, to: usize| {
        Packet::with_data(FORMAT, seqno, from as u64, Bytes::copy_from_slice(&whole[from..to]))
    };
    send_all(&mut stream, &[part(0, 700, 1024), part(1, 1024, 2000)]);
    // The end is sent, and nobody hears whether it came.
    send(&mut stream, &Packet::last(2, 2000, false));
    drop(stream);
    let close = WriteStage::PipelineCloseRecovery;
    let (mut stream, answer) = bench.resume(&block(1), &targets, (close, 2), (2000, 2000));
    good(&answer);
    let ack = Ack::read(&mut stream).unwrap();
    assert_eq!((ack.seqno, ack.first_bad(), ack.receipts.len()), (CLOSE_RECOVERY_SEQNO, None, 3), "{ack:?}");
    assert!(ack.receipts.iter().all(|receipt| (receipt.stamp, receipt.len_bytes) == (stamp(2).raw(), 2000)));
    for node in 0..3 {
        assert!(bench.read(&block(1), node, 2000).unwrap() == whole, "node {node}");
        assert!(bench.progress(&block(1), node).unwrap().finalized);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_25_a_recovery_ends_the_writer_and_makes_one_whole_replica_of_what_was_acknowledged() {
    let bench = Bench::of(1, "BP-1", 64).await;
    let (whole, targets) = (data(3000), bench.targets());
    let (mut stream, answer) = bench.open_write(&block(1), &targets);
    good(&answer);
    let sent = packets(&whole, false);
    send_all(&mut stream, &sent[..3]);
    let storage = targets[0].storage.to_string();
    let named = |len_bytes| Some(Block { pool: "BP-1".into(), id: block(1).id.raw(), stamp: 1001, len_bytes });
    let prepare = c::PrepareRecovery { storage: storage.clone(), block: named(0), recovery_stamp: 1005 };
    bench.order(0, c::node_command::Kind::PrepareRecovery(prepare));
    let result = bench.result().await;
    assert!(result.ok, "{result:?}");
    let found = result.replica.unwrap();
    assert_eq!((found.state(), found.stamp), (c::ReplicaState::BeingWritten, 1001));
    assert_eq!((found.len_bytes, found.acked_bytes, found.restarted), (700, 700, false));
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the writer is told");
    let (_, answer) = bench.resume(&block(1), &targets, (STREAMING, 1), (700, 700));
    assert_ne!(reply::status_of(&answer), Status::Success, "it is fenced");
    assert!(bench.read(&block(1), 0, 700).unwrap() == whole[..700], "readers go on");
    let finish = c::FinishReplica { storage, block: named(600), recovery_stamp: 1005 };
    let command = c::NodeCommand { number: 2, kind: Some(c::node_command::Kind::FinishReplica(finish)) };
    bench.script.lock().unwrap().orders.insert(bench.nodes[0].node.to_string(), vec![command]);
    let result = bench.result().await;
    assert!(result.ok, "{result:?}");
    assert!(bench.read(&block(1), 0, 600).unwrap() == whole[..600]);
    let told = bench.progress(&block(1), 0).unwrap();
    assert_eq!((told.stamp.raw(), told.acked_bytes, told.finalized), (1005, 600, true));
    let script = Arc::clone(&bench.script);
    let finalized = c::ReplicaState::Finalized;
    eventually("the report", || script.lock().unwrap().reported.values().any(|state| *state == finalized)).await;
}
