//! Names of users and groups, as `/etc/passwd` and `/etc/group` of some root folder have them. Users of a directory
//! service are shown as numbers: the package's own are in the files.

use std::{collections::HashMap, fs, path::Path};

/// Users and groups of one system.
#[derive(Clone, Debug, Default)]
pub struct SystemAccounts {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    /// User and primary group of each user name.
    ids: HashMap<String, (u32, u32)>,
}

impl SystemAccounts {
    /// Reads both files below `root`; what cannot be read gives numbers. Blocks.
    pub fn read(root: &Path) -> Self {
        let text = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
        let passwd = text("etc/passwd");
        Self {
            users: parse(&passwd),
            groups: parse(&text("etc/group")),
            ids: passwd.lines().filter_map(ids).collect(),
        }
    }

    /// The user's name, or its number.
    pub fn user(&self, id: u32) -> String {
        named(&self.users, id)
    }

    /// The user's number and that of its primary group.
    pub fn ids(&self, user: &str) -> Option<(u32, u32)> {
        self.ids.get(user).copied()
    }

    /// The group's name, or its number.
    pub fn group(&self, id: u32) -> String {
        named(&self.groups, id)
    }
}

fn named(names: &HashMap<u32, String>, id: u32) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// `name:password:user:group:…` (passwd(5)).
fn ids(line: &str) -> Option<(String, (u32, u32))> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let (user, group) = (fields.nth(1)?, fields.next()?);
    Some((name.to_owned(), (user.parse().ok()?, group.parse().ok()?)))
}

/// `name:password:id:…` in both files (passwd(5), group(5)). The first name of a number counts, as for `ls`.
fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(id))) =
            (fields.next(), fields.next(), fields.next().map(str::parse))
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn names_come_from_the_files_and_unknown_ones_stay_numbers() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nspoiled\nagent:x:997:996::/:/bin/false\nalias:x:0:0::/:\n";
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        let accounts = SystemAccounts::read(root.path());
        assert_eq!(accounts.user(0), "root");
        assert_eq!(accounts.user(997), "agent");
        assert_eq!(accounts.user(5), "5");
        assert_eq!(accounts.group(0), "0");
        assert_eq!(accounts.ids("agent"), Some((997, 996)));
        assert_eq!(accounts.ids("spoiled"), None);
    }
}
