//! Users and groups: the cluster knows names, the kernel numbers. They are matched by this machine's own tables, as far as
//! nothing else is said.

use std::collections::BTreeMap;
use std::path::Path;

use base::local::LocalReader;

/// Number of names that this machine does not know: what the kernel calls overflow.
const NOBODY: u32 = 65_534;
/// Most bytes of a table that are read.
const MAX_TABLE_BYTES: usize = 16 << 20;

/// Names and numbers of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table {
    by_name: BTreeMap<String, u32>,
    by_number: BTreeMap<u32, String>,
    /// Names of numbers that the machine has no name for: `uid1234`.
    prefix: &'static str,
}

impl Table {
    fn new(prefix: &'static str) -> Self {
        Self { prefix, ..Self::default() }
    }

    /// Of two names with one number the first is the one, as everywhere.
    fn add(&mut self, name: &str, number: u32) {
        self.by_name.entry(name.to_owned()).or_insert(number);
        self.by_number.entry(number).or_insert_with(|| name.to_owned());
    }

    /// Lines of `name:password:number:…`.
    fn read(&mut self, text: &str) {
        for line in text.lines() {
            let mut fields = line.split(':');
            if let (Some(name), Some(number)) = (fields.next(), fields.nth(1).and_then(|field| field.parse().ok())) {
                self.add(name, number);
            }
        }
    }

    fn number(&self, name: &str) -> u32 {
        let written = || name.strip_prefix(self.prefix)?.parse().ok();
        self.by_name.get(name).copied().or_else(written).unwrap_or(NOBODY)
    }

    fn name(&self, number: u32) -> String {
        self.by_number.get(&number).cloned().unwrap_or_else(|| format!("{}{number}", self.prefix))
    }
}

/// Who is who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct People {
    users: Table,
    groups: Table,
}

impl Default for People {
    /// Nobody has a name.
    fn default() -> Self {
        Self { users: Table::new("uid"), groups: Table::new("gid") }
    }
}

impl People {
    /// As this machine's `/etc/passwd` and `/etc/group` say; a table that cannot be read is empty. What `users` names comes
    /// before them. Blocks.
    #[must_use]
    pub(crate) fn of_this_machine(users: &[(String, u32)]) -> Self {
        let mut people = Self::default();
        for (name, number) in users {
            people.users.add(name, *number);
        }
        people.users.read(&table("/etc/passwd"));
        people.groups.read(&table("/etc/group"));
        people
    }

    /// Number of a user.
    #[must_use]
    pub(crate) fn uid(&self, user: &str) -> u32 {
        self.users.number(user)
    }
    /// Number of a group.
    #[must_use]
    pub(crate) fn gid(&self, group: &str) -> u32 {
        self.groups.number(group)
    }
    /// Name of a user.
    #[must_use]
    pub(crate) fn user(&self, uid: u32) -> String {
        self.users.name(uid)
    }
    /// Name of a group.
    #[must_use]
    pub(crate) fn group(&self, gid: u32) -> String {
        self.groups.name(gid)
    }
}

/// Further groups of a process; none if it is not to be seen here.
pub(crate) async fn groups_of(pid: u32) -> Vec<u32> {
    let status = base::task::blocking(move || table(&format!("/proc/{pid}/status"))).await;
    groups_in(&status.unwrap_or_default())
}
fn groups_in(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.unwrap_or_default().split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

fn table(path: &str) -> String {
    let read = LocalReader::open(Path::new(path)).and_then(|mut reader| reader.read_chunk(MAX_TABLE_BYTES));
    read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_process_are_read() {
        assert_eq!(groups_in("Name:\tx\nGid:\t1\t1\nGroups:\t4 27 1000 \nNStgid:\t1\n"), vec![4, 27, 1000]);
        assert!(groups_in("Name:\tx\nGroups:\t \n").is_empty() && groups_in("").is_empty());
    }

    #[test]
    fn names_and_numbers_are_matched_and_strangers_come_back() {
        let mut people = People::default();
        people.users.add("ana", 7);
        people.users.read("root:x:0:0::/:/bin/sh\nana:x:1000:1000::/:/bin/sh\nbroken\ntoor:x:0:0::/:/bin/sh\n");
        people.groups.read("staff:x:50:\n");
        assert_eq!((people.uid("root"), people.uid("ana"), people.uid("bob")), (0, 7, NOBODY));
        assert_eq!((people.user(0), people.user(1000)), ("root".to_owned(), "ana".to_owned()));
        assert_eq!((people.gid("staff"), people.group(50).as_str()), (50, "staff"));
        for number in [1, 4242, u32::MAX] {
            assert_eq!(people.uid(&people.user(number)), number);
            assert_eq!(people.gid(&people.group(number)), number);
        }
    }
}
