//! `config validate`: everything that is wrong with a file, each with its line.

use std::path::Path;

use base::config::{ConfigError, Fault, Shown, Sources};

use super::{print, tell};
use crate::args::Global;
use crate::exit::Status;
use crate::server::Settings;

/// Runs `config validate`.
pub(super) fn run(file: &Path, global: &Global) -> Result<Status, ConfigError> {
    let faults = faults(file);
    for fault in &faults {
        tell(global, "fault", &fault.origin, &fault.message);
    }
    if !faults.is_empty() {
        return Ok(Status::PROBLEMS);
    }
    if global.json {
        print(&serde_json::json!({"v": 1, "type": "valid", "path": file.display().to_string()}).to_string());
    } else {
        print(&format!("{}: OK", file.display()));
    }
    Ok(Status::OK)
}

/// What is wrong: keys and values first; if they are right, what contradicts each other.
fn faults(file: &Path) -> Vec<Fault> {
    let sources = Sources::new().file(file);
    let read = base::config::load::<Settings>(&sources).and_then(|settings| {
        let shown = base::config::show::<Settings>(&sources)?;
        Ok((settings, shown))
    });
    let (settings, shown) = match read {
        Ok(read) => read,
        Err(mut error) => {
            error.faults.sort_by_key(|fault| line_of(&fault.origin));
            return error.faults;
        }
    };
    let has = |section: &str| shown.iter().any(|setting| setting.is_set() && setting.key.starts_with(section));
    let mut faults = Vec::new();
    if has("namenode.") {
        let mut namenode = settings.namenode;
        // What flags and the start fill in is not missed.
        if namenode.dir.as_os_str().is_empty() {
            namenode.dir = "somewhere".into();
        }
        if namenode.superuser.is_empty() {
            namenode.superuser = "someone".to_owned();
        }
        if let Err(bad) = namenode.validate() {
            faults.push(fault(file, &shown, &format!("namenode.{}", bad.key), &bad.to_string()));
        }
    }
    if has("datanode.") {
        let mut datanode = settings.datanode;
        if datanode.dirs.is_empty() {
            datanode.dirs = vec!["somewhere".into()];
        }
        if let Err(bad) = datanode.validate() {
            faults.push(fault(file, &shown, &format!("datanode.{}", bad.key), &bad.to_string()));
        }
    }
    faults
}

/// The line in an origin such as `namenode.toml:12`.
fn line_of(origin: &str) -> u64 {
    origin.rsplit_once(':').and_then(|(_, line)| line.parse().ok()).unwrap_or(0)
}

fn fault(file: &Path, shown: &[Shown], key: &str, message: &str) -> Fault {
    let set = shown.iter().find(|setting| setting.key == key && setting.is_set());
    let origin = set.map_or_else(|| file.display().to_string(), |setting| setting.origin.clone());
    Fault { origin, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn told(text: &str) -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let name = file.path().display().to_string();
        let short = |fault: Fault| format!("{}: {}", fault.origin.replace(&name, "FILE"), fault.message);
        faults(file.path()).into_iter().map(short).collect()
    }

    #[test]
    fn every_fault_has_its_line() {
        assert_eq!(told("[namenode]\nreplication = 2\n[datanode]\nrack = \"/r1\"\n"), Vec::<String>::new());
        let bad = told("[namenode]\nreplicaton = 2\nstale_after = 3\n\n[datanode]\nreserve = \"lots\"\n");
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad[0].starts_with("FILE:2: unknown key \"namenode.replicaton\"; did you mean"), "{bad:?}");
        assert!(bad[1].starts_with("FILE:3: namenode.stale_after"), "{bad:?}");
        assert!(bad[2].starts_with("FILE:6: datanode.reserve"), "{bad:?}");
        let contradiction = told("[namenode]\n\nstale_after = \"1s\"\n[datanode]\nrack = \"r1\"\n");
        assert!(contradiction[0].starts_with("FILE:3: namenode.stale_after"), "{contradiction:?}");
        assert!(contradiction[1].starts_with("FILE:5: datanode.rack"), "{contradiction:?}");
        assert!(told("[namenode\n")[0].starts_with("FILE:1:"));
    }
}
