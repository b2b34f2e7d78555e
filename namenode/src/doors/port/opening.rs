//! The first bytes of a connection.

use std::fmt;
use std::io;

use base::net::TcpStream;
use proto::framing::MAGIC;
use tokio::io::AsyncReadExt;

use crate::doors::Carrier;

/// Begin of HTTP/2's preface: gRPC.
const HTTP2: [u8; 4] = *b"PRI ";
/// Hadoop's RPC, which has no door yet.
const HADOOP: [u8; 4] = *b"hrpc";

/// What a connection said first; belongs in front of everything that is read from it later.
#[derive(Clone, Copy, Debug)]
pub(in crate::doors) struct Opening {
    bytes: [u8; 4],
    len: usize,
}

impl Opening {
    /// Reads until the carrier is known, or until it is known to be none of ours.
    pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut this = Self { bytes: [0; 4], len: 0 };
        while this.len < this.bytes.len() && this.may_be_known() {
            match stream.read(&mut this.bytes[this.len..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => this.len += n,
            }
        }
        Ok(this)
    }

    fn may_be_known(&self) -> bool {
        [MAGIC, HTTP2, HADOOP].iter().any(|known| known.starts_with(self.bytes()))
    }

    /// The bytes.
    pub(in crate::doors) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Who speaks like that.
    pub(super) fn carrier(&self) -> Option<Carrier> {
        match self.bytes {
            MAGIC => Some(Carrier::Framed),
            HTTP2 => Some(Carrier::Grpc),
            _ => None,
        }
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes == HADOOP {
            return f.write_str("it speaks Hadoop's RPC, which this version does not");
        }
        write!(f, "it speaks neither Blockyard's protocol nor gRPC (first bytes: {})", self.bytes().escape_ascii())
    }
}
