//! Whether what a verb writes gets a digest.

use clap::{Args, ValueEnum};
use client::BlockDigest;

/// Flag of verbs that write.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DigestOptions {
    /// What is computed of the data beside their checksums, so that `fsck --full` can prove them
    #[arg(long, value_enum, default_value_t = Digest::Sha256, env = "BLOCKYARD_DIGEST", hide_env_values = true)]
    digest: Digest,
}

/// As it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Digest {
    /// A tree of SHA-256 over each block
    Sha256,
    /// Nothing: a writer needs less processor time
    None,
}

impl Digest {
    pub(crate) const fn wanted(self) -> BlockDigest {
        match self {
            Self::Sha256 => BlockDigest::Sha256,
            Self::None => BlockDigest::None,
        }
    }
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::None => "none",
        }
    }
}

impl DigestOptions {
    /// What is to be computed.
    pub(crate) const fn wanted(self) -> BlockDigest {
        self.digest.wanted()
    }
}
