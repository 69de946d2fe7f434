//! The newest lines of a file.

use super::{
    part::PartContent,
    program::{KeptEnd, MAX_BYTES, whole_lines},
    regular_file,
};
use std::{
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// At most `lines` of the newest lines, and at most [`MAX_BYTES`]. Blocks on the disk.
pub(super) fn newest(path: &Path, lines: usize) -> PartContent {
    match read(path, lines) {
        Ok(content) => content,
        Err(error) => PartContent::Missing(format!("{}: {error}", path.display())),
    }
}

fn read(path: &Path, lines: usize) -> io::Result<PartContent> {
    let mut file = regular_file::open(path)?;
    let len = file.metadata()?.len();
    let begin = len.saturating_sub(MAX_BYTES as u64);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(MAX_BYTES as u64).read_to_end(&mut bytes)?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if begin > 0 {
        whole_lines(&mut text, KeptEnd::Last);
    }
    let too_many = text.lines().count().saturating_sub(lines);
    let skipped: usize = text
        .split_inclusive('\n')
        .take(too_many)
        .map(str::len)
        .sum();
    text.drain(..skipped);
    Ok(PartContent::Text {
        text,
        cut: begin > 0 || too_many > 0,
        removed: 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_the_file_is_not_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let text: String = (0..200_000)
            .map(|n| format!("line {n} of the log\n"))
            .collect();
        std::fs::write(&path, &text).unwrap();
        assert!(text.len() > MAX_BYTES);
        let PartContent::Text { text, cut, .. } = newest(&path, 3) else {
            panic!("nothing");
        };
        assert_eq!(
            text,
            "line 199997 of the log\nline 199998 of the log\nline 199999 of the log\n"
        );
        assert!(cut);
        let PartContent::Text { text, .. } = newest(&path, usize::MAX) else {
            panic!("nothing");
        };
        assert!(text.len() <= MAX_BYTES && text.starts_with("line "));
    }

    #[test]
    fn a_link_or_a_pipe_in_the_place_of_a_log_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, link, pipe) = (
            folder.path().join("shadow"),
            folder.path().join("audit.log"),
            folder.path().join("pipe.log"),
        );
        std::fs::write(&secret, "root:hash\n").unwrap();
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [&link, &pipe] {
            assert!(
                matches!(newest(path, 3), PartContent::Missing(_)),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let PartContent::Missing(why) = newest(Path::new("/none/such"), 3) else {
            panic!("something");
        };
        assert!(why.starts_with("/none/such: "), "{why}");
    }
}
