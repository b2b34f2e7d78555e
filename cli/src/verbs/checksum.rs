//! `checksum`: what is in files, as two numbers that other programs compute, too.

use clap::Args;
use client::{ErrorCode, FsError, Reader, file_digest};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Outcome;
use super::context::Context;
use super::each::each;
use super::failure::Failure;
use super::paths::PATHS_HELP;
use super::text::bytes::hex;
use super::text::plain;

/// Flags of `checksum`.
#[derive(Debug, Args)]
#[command(
    after_help = PATHS_HELP,
    after_long_help = format!("\
Reads the files and prints the SHA-256 and the CRC-32C of all their bytes, whatever blocks they are in: files with the
same content have the same numbers. With --json also their digest, or null if a block of them has none.

With --digest nothing is read: the digest of a file is made of those of its blocks, which their writers sent along.
Files with the same content in blocks of the same length have the same one. `blockyard fsck --full` compares it with the
data.

{PATHS_HELP}

Examples:
  blockyard checksum '/data/*'; sha256sum data/*
  blockyard checksum --digest /data/x /backup/x")
)]
pub(crate) struct ChecksumOptions {
    /// Files of the cluster
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Print the digest that was made when the files were written, without reading them
    #[arg(long)]
    digest: bool,
}

/// Runs `checksum`.
pub(crate) async fn run(options: &ChecksumOptions, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| {
        let mut reader = context.client.open(path).await?;
        let digest = file_digest(reader.blocks().iter().map(AsRef::as_ref)).map(|digest| hex(&digest));
        if options.digest {
            return tell_digest(context, path, digest.ok_or_else(no_digest)?);
        }
        let (bytes, sha256, crc32c) = checksum(&mut reader).await?;
        if context.output.is_json() {
            return context.output.object(&json!({
                "v": 1, "type": "checksum", "path": path, "size": bytes, "sha256": sha256, "crc32c": crc32c,
                "digest": digest,
            }));
        }
        context.output.line(&format!("{sha256}  {crc32c}  {}", plain(path)))
    })
    .await
}

fn tell_digest(context: &Context, path: &str, digest: String) -> Outcome {
    match context.output.is_json() {
        true => context.output.object(&json!({"v": 1, "type": "digest", "path": path, "digest": digest})),
        false => context.output.line(&format!("{digest}  {}", plain(path))),
    }
}

fn no_digest() -> Failure {
    let error = FsError::new(ErrorCode::NoAttribute, "a block of the file has no digest");
    error.with_hint("it was written without one: `blockyard checksum` without --digest reads the file").into()
}

async fn checksum(reader: &mut Reader) -> Result<(u64, String, String), Failure> {
    let (mut sha256, mut bytes) = (Sha256::new(), 0);
    let mut crc32c = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    while let Some(piece) = reader.next().await? {
        sha256.update(&piece);
        crc32c.update(&piece);
        bytes += piece.len() as u64;
    }
    Ok((bytes, hex(&sha256.finalize()), format!("{:08x}", crc32c.finalize())))
}
