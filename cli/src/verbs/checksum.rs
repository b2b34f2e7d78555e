//! `checksum`: what is in files, as two numbers that other programs compute, too.

use clap::Args;
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
same content have the same numbers.

{PATHS_HELP}

Example:
  blockyard checksum '/data/*'; sha256sum data/*")
)]
pub(crate) struct ChecksumOptions {
    /// Files of the cluster
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

/// Runs `checksum`.
pub(crate) async fn run(options: &ChecksumOptions, context: &Context) -> Outcome {
    each(context, &options.paths, async |path| {
        let (bytes, sha256, crc32c) = checksum(context, path).await?;
        if context.output.is_json() {
            return context.output.object(&json!({
                "v": 1, "type": "checksum", "path": path, "size": bytes, "sha256": sha256, "crc32c": crc32c,
            }));
        }
        context.output.line(&format!("{sha256}  {crc32c}  {}", plain(path)))
    })
    .await
}

async fn checksum(context: &Context, path: &str) -> Result<(u64, String, String), Failure> {
    let mut reader = context.client.open(path).await?;
    let (mut sha256, mut bytes) = (Sha256::new(), 0);
    let mut crc32c = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    while let Some(piece) = reader.next().await? {
        sha256.update(&piece);
        crc32c.update(&piece);
        bytes += piece.len() as u64;
    }
    Ok((bytes, hex(&sha256.finalize()), format!("{:08x}", crc32c.finalize())))
}
