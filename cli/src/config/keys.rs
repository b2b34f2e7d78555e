//! What every key of the settings means: the one table behind `config explain` and `docs/cli/settings.md`.
//!
//! A test holds it against the structs that the servers read, so that a key cannot be forgotten here.

/// A key of the settings.
#[derive(Debug)]
pub(crate) struct Key {
    /// `section.key`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it means, in a sentence.
    pub(crate) meaning: &'static str,
    /// Which part of the server asks for it.
    pub(crate) used: &'static str,
    /// Read when a cluster is made, never again: it is kept in the replicated state.
    pub(crate) once: bool,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Address,
    Switch,
    Folder,
    Folders,
    Text,
    Texts,
    Number,
    Duration,
    Size,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Switch => "switch",
            Self::Folder => "folder",
            Self::Folders => "folders",
            Self::Text => "text",
            Self::Texts => "texts",
            Self::Number => "number",
            Self::Duration => "duration",
            Self::Size => "size",
        }
    }
    /// What a person must know to write one.
    const fn written(self) -> &'static str {
        match self {
            Self::Address => "an address with a port, such as \"127.0.0.1:8020\"; port 0 takes a free one",
            Self::Switch => "true or false",
            Self::Folder => "a path, in quotes",
            Self::Folders => "paths, such as [\"/data/1\", \"/data/2\"]",
            Self::Text => "a text, in quotes",
            Self::Texts => "texts, such as [\"one\", \"two\"]",
            Self::Number => "a number",
            Self::Duration => "a duration with its unit, such as \"500ms\", \"3s\", \"10m\", \"6h\" or \"7d\"",
            Self::Size => "a number of bytes, such as \"4KiB\", \"128MiB\" or \"1GiB\"",
        }
    }
}

impl Key {
    pub(crate) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }
    /// The variable of the environment that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("{}{}", base::config::ENVIRONMENT_PREFIX, self.name.replace('.', "__").to_ascii_uppercase())
    }
    /// All that is to say, for a person. `default` is written as in a file.
    pub(crate) fn text(&self, default: &str) -> String {
        let once =
            if self.once { "\n  changed       never: it is read when a cluster is made, and kept there" } else { "" };
        format!(
            "{}\n  {}\n\n  default       {default}\n  written as    {}\n  used by       {}\n  environment   {}{once}",
            self.name,
            self.meaning,
            self.kind.written(),
            self.used,
            self.variable(),
        )
    }
}

const fn key(name: &'static str, kind: Kind, used: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, meaning, used, once: false }
}

const fn once(name: &'static str, kind: Kind, used: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, meaning, used, once: true }
}

/// Every key, in the order in which it is shown.
pub(crate) const KEYS: &[Key] = &[
    key(
        "namenode.listen",
        Kind::Address,
        "the door for clients and datanodes",
        "Where clients and datanodes reach the namenode.",
    ),
    key("namenode.http", Kind::Address, "the operations pages", "Where /livez, /readyz and /metrics are."),
    key(
        "namenode.insecure",
        Kind::Switch,
        "the start",
        "Listen on addresses that other machines can reach, although nothing is authenticated or encrypted yet.",
    ),
    key(
        "namenode.dir",
        Kind::Folder,
        "log and images",
        "The folder of the log and the images. A first start formats it if it is empty or missing, and never otherwise.",
    ),
    once(
        "namenode.superuser",
        Kind::Text,
        "permission checks",
        "The user above all permission checks. Empty: who starts the namenode.",
    ),
    once("namenode.replication", Kind::Number, "new files", "Copies of a file whose writer does not say how many."),
    once("namenode.block_size", Kind::Size, "new files", "Length of the blocks of a file whose writer does not say."),
    once(
        "namenode.directories",
        Kind::Texts,
        "a new cluster",
        "Directories of a new cluster, each \"PATH MODE OWNER\", parents first. None: /tmp, and the superuser's home.",
    ),
    key("namenode.heartbeat_interval", Kind::Duration, "datanodes", "Time between the heartbeats of a datanode."),
    key(
        "namenode.stale_after",
        Kind::Duration,
        "placement and reads",
        "Silence after which a datanode is stale: asked last by readers, and given no new blocks.",
    ),
    key(
        "namenode.dead_after",
        Kind::Duration,
        "repair",
        "Silence after which a datanode's copies do not count, and are made again elsewhere.",
    ),
    key(
        "namenode.settle",
        Kind::Duration,
        "repair",
        "Time after a block is committed in which missing copies are only waited for.",
    ),
    key(
        "namenode.delete_delay",
        Kind::Duration,
        "removal of replicas",
        "Time from the beginning of a leadership in which no replica is removed.",
    ),
    key(
        "namenode.unasked_deletes_per_minute",
        Kind::Number,
        "removal of replicas",
        "Replicas a minute that may be removed without a user having asked; beyond it they stop and an alarm is logged.",
    ),
    key(
        "namenode.lease_soft_limit",
        Kind::Duration,
        "files being written",
        "Silence of a writer after which its file is taken away as soon as somebody else wants to write it; 0s: a minute, or \
         lease_hard_limit if that is less.",
    ),
    once(
        "namenode.lease_hard_limit",
        Kind::Duration,
        "files being written",
        "Silence after which a writer loses its file.",
    ),
    once(
        "namenode.trash_interval",
        Kind::Duration,
        "rm and the trash",
        "How long removed files stay in the trash; 0s: there is no trash, and rm is final.",
    ),
    once(
        "namenode.trash_checkpoint",
        Kind::Duration,
        "the trash",
        "Time between two checkpoints of the trash; 0s stands for trash_interval.",
    ),
    once(
        "namenode.access_time_precision",
        Kind::Duration,
        "reads",
        "A file's access time is set again by a read only when it is older than this; 0s keeps none.",
    ),
    key("namenode.image_every", Kind::Size, "images", "Bytes of log after which an image is written."),
    key("namenode.log_segment", Kind::Size, "the log", "Size of a file of the log."),
    key(
        "namenode.call_deadline",
        Kind::Duration,
        "the doors",
        "Longest time that a call may wait, if its client names no shorter one.",
    ),
    key("namenode.max_calls", Kind::Number, "the doors", "Calls in work at a time; more are refused as overload."),
    key(
        "namenode.max_connections",
        Kind::Number,
        "the port",
        "Connections of clients and datanodes at a time; more are turned away.",
    ),
    key(
        "namenode.preamble_timeout",
        Kind::Duration,
        "the port",
        "Time that a new connection has to say which protocol it speaks.",
    ),
    key("namenode.idle_timeout", Kind::Duration, "the port", "Time without a call after which a connection is closed."),
    key(
        "datanode.listen",
        Kind::Address,
        "the transfer server",
        "Where clients and other datanodes reach the datanode.",
    ),
    key("datanode.http", Kind::Address, "the operations pages", "Where /livez, /readyz and /metrics are."),
    key(
        "datanode.insecure",
        Kind::Switch,
        "the start",
        "Listen on addresses that other machines can reach, although nothing is encrypted yet.",
    ),
    key(
        "datanode.dirs",
        Kind::Folders,
        "the block store",
        "Folders of blocks, one for each disk. A first start gives each empty one an identity.",
    ),
    key(
        "datanode.namenodes",
        Kind::Texts,
        "registration and reports",
        "The namenodes, each \"HOST:PORT\". All of them get every report.",
    ),
    key(
        "datanode.host",
        Kind::Text,
        "registration",
        "Host at which clients and other datanodes reach this one. Empty: the address of listen.",
    ),
    key("datanode.rack", Kind::Text, "placement", "Where the machine stands: \"/rack\" or \"/room/rack\"."),
    key("datanode.reserve", Kind::Size, "the block store", "Room on each disk that blocks never use."),
    key(
        "datanode.trash_keep",
        Kind::Duration,
        "the block store",
        "How long removed replicas are kept while there is room.",
    ),
    key(
        "datanode.disk_slow_after",
        Kind::Duration,
        "the block store",
        "Nothing new is begun on a disk of which a call has not come back for this long.",
    ),
    key(
        "datanode.disk_hung_after",
        Kind::Duration,
        "the block store",
        "Replicas on a disk of which a call has not come back for this long count as away, until it works again.",
    ),
    key(
        "datanode.scrub_rate",
        Kind::Size,
        "the scrubber",
        "Bytes a second that the scrubber of each disk reads at most; 0: there is no scrubber.",
    ),
    key(
        "datanode.scrub_period",
        Kind::Duration,
        "the scrubber",
        "Time in which every replica is read and compared with its checksums once, if scrub_rate allows for it.",
    ),
    key(
        "datanode.copy_streams",
        Kind::Number,
        "repair",
        "Copies that the datanode makes at a time for blocks that lack some; as many again for blocks with one copy left.",
    ),
    key(
        "datanode.copy_rate",
        Kind::Size,
        "repair",
        "Bytes a second that it sends for them, those of blocks with one copy left excepted; 0: as fast as it can.",
    ),
    key(
        "datanode.full_report",
        Kind::Duration,
        "reports",
        "Time between full reports of a storage. Between them only changes are told.",
    ),
    key(
        "datanode.max_connections",
        Kind::Number,
        "the transfer server",
        "Data connections at a time; more are closed as they come.",
    ),
    key(
        "datanode.peer_timeout",
        Kind::Duration,
        "the transfer server",
        "Silence on a data connection, while an operation is under way, after which it is closed.",
    ),
    key(
        "datanode.local_socket",
        Kind::Text,
        "the local door",
        "Where readers on this machine borrow files: a path; \"auto\", in the first folder of blocks; or \"off\".",
    ),
    key(
        "datanode.max_loans",
        Kind::Number,
        "the local door",
        "Replicas whose files are lent at a time, three quarters of them to one user at most; others use the transfer server.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Settings;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_names_every_key_of_the_servers_and_no_other() {
        let known: BTreeSet<String> = base::config::known_keys::<Settings>().unwrap().into_iter().collect();
        let told: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        assert_eq!(told.len(), KEYS.len(), "a key stands twice in the table");
        let (missing, extra): (Vec<_>, Vec<_>) = (known.difference(&told).collect(), told.difference(&known).collect());
        assert!(missing.is_empty(), "say in cli/src/config/keys.rs what these mean: {missing:?}");
        assert!(extra.is_empty(), "cli/src/config/keys.rs explains keys that no server has: {extra:?}");
        assert!(KEYS.iter().all(|key| key.meaning.ends_with('.') && !key.used.is_empty()));
    }

    #[test]
    fn kinds_are_those_of_the_values() {
        for shown in base::config::show::<Settings>(&base::config::Sources::new()).unwrap() {
            let key = KEYS.iter().find(|key| key.name == shown.key).unwrap();
            let fits = match key.kind {
                Kind::Switch => shown.value.is_boolean(),
                Kind::Number => shown.value.is_number(),
                Kind::Folders | Kind::Texts => shown.value.is_array(),
                Kind::Duration => {
                    shown.value.as_str().is_some_and(|text| text.parse::<base::config::HumanDuration>().is_ok())
                }
                Kind::Size => shown.value.as_str().is_some_and(|text| text.parse::<base::config::ByteSize>().is_ok()),
                Kind::Address => shown.value.as_str().is_some_and(|text| text.contains(':')),
                Kind::Folder | Kind::Text => shown.value.is_string(),
            };
            assert!(fits, "{} is said to be a {}, but is {}", key.name, key.kind.name(), shown.value);
        }
    }
}
