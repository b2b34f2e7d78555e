//! Random operations on one file, against a plain vector of bytes: what `fsx` does.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use base::random::{Randomness, SeededRandom};

use crate::place::{Place, by_program};

/// Longest file, in bytes.
const MOST_BYTES: u64 = 200_000;

fn operations() -> usize {
    std::env::var("BLOCKYARD_FSX").ok().and_then(|text| text.parse().ok()).unwrap_or(250)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_operations_do_as_a_vector_of_bytes_does() {
    let Some(place) = Place::with(2).await else { return };
    let seed = std::env::var("BLOCKYARD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let dirs = [place.dir(0), place.dir(1)];
    by_program(move || {
        let random = SeededRandom::new(seed);
        let below = |most: u64| random.next_u64() % most.max(1);
        let mut model: Vec<u8> = Vec::new();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        let mut mount = 0;
        let mut file = options.open(dirs[mount].join("f")).unwrap();
        for step in 0..operations() {
            let at = below(model.len() as u64 + 2000).min(MOST_BYTES);
            let len = below(20_000).min(MOST_BYTES - at) as usize;
            match below(20) {
                0..=6 => {
                    let bytes = crate::place::content(len, random.next_u64());
                    file.write_all_at(&bytes, at).unwrap();
                    let end = at as usize + len;
                    if len > 0 && end > model.len() {
                        model.resize(end, 0);
                    }
                    if len > 0 {
                        model[at as usize..end].copy_from_slice(&bytes);
                    }
                }
                7..=9 => {
                    let bytes = crate::place::content(len, random.next_u64());
                    file.write_all_at(&bytes, model.len() as u64).unwrap();
                    model.extend_from_slice(&bytes);
                }
                10..=14 => {
                    let mut bytes = vec![0; len];
                    let have = file.read_at(&mut bytes, at).unwrap();
                    let wanted = model.get(at as usize..).unwrap_or_default();
                    let wanted = &wanted[..wanted.len().min(len)];
                    assert!(bytes[..have] == *wanted, "seed {seed}, step {step}: {len} bytes at {at}");
                }
                15 | 16 => {
                    file.set_len(at).unwrap();
                    model.resize(at as usize, 0);
                }
                17 => file.sync_all().unwrap(),
                18 => {
                    drop(file);
                    mount = below(2) as usize;
                    file = options.open(dirs[mount].join("f")).unwrap();
                    assert!(
                        fs::read(dirs[mount].join("f")).unwrap() == model,
                        "seed {seed}, step {step}: opened again"
                    );
                }
                _ => {
                    let len = file.metadata().unwrap().len();
                    assert_eq!(len, model.len() as u64, "seed {seed}, step {step}");
                }
            }
        }
        drop(file);
        for dir in dirs {
            assert!(fs::read(dir.join("f")).unwrap() == model, "seed {seed}, at the end");
        }
    })
    .await;
    place.end().await;
}
