//! What the audit log says. One log for all tests of the binary: each looks for its own names.

use std::io;
use std::sync::{Arc, Mutex, Once};

use base::logs::AUDIT;

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Sink;

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to listen.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::new(format!("off,{AUDIT}=info"));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(|| Sink);
        tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    });
}

/// Records that contain all of the words.
pub(crate) fn records(words: &[&str]) -> Arc<[String]> {
    let log = LOG.lock().unwrap();
    log.iter().filter(|line| words.iter().all(|word| line.contains(word))).cloned().collect()
}
