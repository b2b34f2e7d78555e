//! Sockets over loopback, between threads of this process: the processor time of both ends is counted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Work;
use super::files::{PIECE_BYTES, fill, nameless};
use crate::clock::{Clock, Moment};
use crate::net::send_file;
use crate::process::process_cpu;
use crate::random::Randomness;
use crate::task;

/// Length of the file that is sent over and over: it is in the page cache, and in no processor's.
const FILE_BYTES: u64 = 64 << 20;
/// Longest wait for the other end: a machine that stands still must not hang the benchmark.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the sender of a stream has its bytes from.
#[derive(Clone, Copy, Debug)]
pub enum StreamSource<'a> {
    /// Memory: writes of 1 MiB.
    Memory,
    /// A file in the page cache, made in this folder: sendfile, 1 MiB a call.
    File(&'a Path),
}

/// Sends at least `len_bytes` over one connection; the receiver takes up to 1 MiB a call.
///
/// # Errors
/// The system's.
pub fn stream(
    source: StreamSource<'_>,
    len_bytes: u64,
    clock: &dyn Clock,
    random: &dyn Randomness,
) -> io::Result<Work> {
    let file = match source {
        StreamSource::Memory => None,
        StreamSource::File(dir) => {
            let file = nameless(dir, random)?;
            fill(&file, FILE_BYTES, false)?;
            Some(file)
        }
    };
    let (mut receiver, sender) = pair()?;
    let (begun, cpu) = (clock.now(), process_cpu());
    let sending = task::thread("probe-send", move || send(&sender, file.as_ref(), len_bytes))?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut count = 0;
    loop {
        match receiver.read(&mut piece)? {
            0 => break,
            n => count += n as u64,
        }
        std::hint::black_box(&piece);
    }
    join(sending)?;
    Ok(Work { count, took: clock.now().since(begun), cpu: process_cpu().saturating_sub(cpu) })
}

fn send(mut socket: &TcpStream, file: Option<&std::fs::File>, len_bytes: u64) -> io::Result<()> {
    let piece = vec![0x5a; if file.is_some() { 0 } else { PIECE_BYTES }];
    let mut sent = 0;
    while sent < len_bytes {
        match file {
            Some(file) => send_file(socket.as_fd(), file.as_fd(), sent % FILE_BYTES, PIECE_BYTES as u64)?,
            None => socket.write_all(&piece)?,
        }
        sent += PIECE_BYTES as u64;
    }
    socket.shutdown(std::net::Shutdown::Write)
}

/// Asks and answers over so many connections at a time, each with a blocking thread at both ends: a question of
/// `question_bytes`, an answer of `answer_bytes` from memory. Counts the answers.
///
/// # Errors
/// The system's.
pub fn exchange(
    connections: u64,
    (question_bytes, answer_bytes): (usize, usize),
    during: Duration,
    clock: &Arc<dyn Clock>,
) -> io::Result<Work> {
    let (begun, cpu) = (clock.now(), process_cpu());
    let end = begun.plus(during);
    let mut threads = Vec::new();
    for _ in 0..connections {
        let (asking, answering) = pair()?;
        let clock = Arc::clone(clock);
        threads
            .push(task::thread("probe-answer", move || answer(&answering, question_bytes, answer_bytes).map(|()| 0))?);
        threads.push(task::thread("probe-ask", move || {
            ask(&asking, (question_bytes, answer_bytes), end, clock.as_ref())
        })?);
    }
    let mut count = 0;
    for thread in threads {
        count += join(thread)?;
    }
    Ok(Work { count, took: clock.now().since(begun), cpu: process_cpu().saturating_sub(cpu) })
}

fn ask(mut socket: &TcpStream, sizes: (usize, usize), end: Moment, clock: &dyn Clock) -> io::Result<u64> {
    let (question, mut answer) = (vec![1; sizes.0], vec![0; sizes.1]);
    let mut count = 0;
    while clock.now() < end {
        socket.write_all(&question)?;
        socket.read_exact(&mut answer)?;
        count += 1;
    }
    socket.shutdown(std::net::Shutdown::Write)?;
    Ok(count)
}

fn answer(mut socket: &TcpStream, question_bytes: usize, answer_bytes: usize) -> io::Result<()> {
    let (mut question, answer) = (vec![0; question_bytes], vec![1; answer_bytes]);
    loop {
        match socket.read_exact(&mut question) {
            Ok(()) => socket.write_all(&answer)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Both ends of a connection.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let one = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (other, _) = listener.accept()?;
    for end in [&one, &other] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_write_timeout(Some(PATIENCE))?;
    }
    Ok((one, other))
}

fn join<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread.join().map_err(|_panic| io::Error::other("a thread of the measurement panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::random::OsRandom;

    #[test]
    fn streams_carry_what_was_asked_for_and_leave_no_file() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), SystemClock::new());
        for source in [StreamSource::Memory, StreamSource::File(dir.path())] {
            let work = stream(source, 65 << 20, &clock, &OsRandom).unwrap();
            assert_eq!(work.count, 65 << 20, "{source:?}");
            assert!(!work.took.is_zero() && !work.cpu.is_zero(), "{work:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn every_question_is_answered() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let work = exchange(3, (100, 5000), Duration::from_millis(30), &clock).unwrap();
        assert!(work.count >= 3 && work.took >= Duration::from_millis(30), "{work:?}");
    }
}
