//! How mount(8) and fstab call: as `mount.blockyard SOURCE DIR [-sfnv] [-o OPTIONS]`. Pure.
//!
//! ```text
//!   /etc/fstab:  blockyard://nn1:8020,nn2:8020  /mnt/b  blockyard  _netdev,allow_other,uid-map=ana=1000  0 0
//! ```

use std::ffi::OsString;
use std::path::Path;

/// Name under which this program is such a helper: a link to it in `/sbin`.
const NAME: &str = "mount.blockyard";
/// Options that are flags of `mount` without a value.
const FLAGS: [(&str, &str); 3] = [("ro", "--read-only"), ("allow_other", "--allow-other"), ("debug", "--debug")];
/// Options that are flags of `mount` with one. Several users of a map are several options.
const VALUES: [&str; 8] = ["user", "http", "sync", "uid-map", "cache-dir", "cache-size", "timeout", "log-file"];

/// The words of a call by mount(8) as those of `blockyard mount`; `None` if it is no such call. What is not known is for the
/// kernel or for mount(8) itself (`rw`, `_netdev`, `noauto`, `x-systemd.automount`, …).
pub(crate) fn translated(words: &[OsString]) -> Option<Vec<OsString>> {
    let (program, words) = words.split_first()?;
    if Path::new(program).file_name()? != NAME {
        return None;
    }
    let (mut plain, mut flags) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-o") => flags.extend(words.next().and_then(|options| options.to_str()).map(options)),
            Some(word) if word.starts_with('-') => {}
            _ => plain.push(word.clone()),
        }
    }
    let mut told: Vec<OsString> = vec!["blockyard".into(), "mount".into()];
    told.extend(flags.into_iter().flatten().map(OsString::from));
    let mut plain = plain.into_iter();
    if let Some(source) = plain.next() {
        told.extend(["--fs".into(), source]);
    }
    told.extend(plain);
    Some(told)
}

fn options(list: &str) -> Vec<String> {
    let mut flags = Vec::new();
    for option in list.split(',') {
        if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == option) {
            flags.push((*flag).to_owned());
        }
        if let Some((name, value)) = option.split_once('=').filter(|(name, _)| VALUES.contains(name)) {
            flags.push(format!("--{name}={value}"));
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Option<Vec<String>> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Some(translated(&words)?.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    #[test]
    fn mount_8_is_understood() {
        assert_eq!(of(&["/usr/bin/blockyard", "mount", "/mnt"]), None);
        let words = [
            "/sbin/mount.blockyard",
            "blockyard://h:1",
            "/mnt",
            "-s",
            "-o",
            "rw,_netdev,allow_other,uid-map=a=7,timeout=5",
        ];
        let wanted =
            ["blockyard", "mount", "--allow-other", "--uid-map=a=7", "--timeout=5", "--fs", "blockyard://h:1", "/mnt"];
        assert_eq!(of(&words).unwrap(), wanted);
        assert_eq!(of(&["mount.blockyard", "b", "/m", "-o", "ro"]).unwrap()[2], "--read-only");
    }
}
