//! fsx: random operations on one file, for each of several seeds. `BLOCKYARD_FSX=100000` makes it the long run.

use std::process::Command;

use super::{Place, has, said};

const OPERATIONS: u32 = 10_000;
const SEEDS: [u32; 5] = [1, 2, 3, 4, 5];
/// Everything that a mount can do with a file, opening and syncing seldom.
const SETTINGS: &str = "flen = 262144
[opsize]
max = 65536
[weights]
close_open = 0.5
read = 10
write = 10
mapread = 10
mapwrite = 10
invalidate = 1
truncate = 5
fsync = 0.5
fdatasync = 0.5
posix_fallocate = 1
sendfile = 2
posix_fadvise = 1
copy_file_range = 2
";

fn operations() -> String {
    std::env::var("BLOCKYARD_FSX").unwrap_or_else(|_| OPERATIONS.to_string())
}

#[test]
fn heavy_fsx_finds_every_byte_where_it_was_written() {
    let Some(place) = Place::new() else { return };
    if !has("fsx") {
        return;
    }
    let (scratch, dir) = (place.local("scratch"), place.folder("fsx"));
    let settings = scratch.join("fsx.toml");
    std::fs::write(&settings, SETTINGS).expect("settings");
    for seed in SEEDS {
        let began = std::time::Instant::now();
        let mut command = Command::new("fsx");
        command.arg("-f").arg(&settings).arg("-P").arg(&scratch).args(["-N", &operations(), "-S", &seed.to_string()]);
        let (content, said) = said(command.arg(dir.join("f")), &scratch.join("fsx.log"));
        let end = said.len().saturating_sub(4000);
        assert!(content, "seed {seed}: {}", said.get(end..).unwrap_or(&said));
        println!("fsx: seed {seed}, {} operations in {:.0} s", operations(), began.elapsed().as_secs_f64());
    }
}
