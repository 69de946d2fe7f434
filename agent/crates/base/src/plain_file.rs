//! Files that are no secrets: read within bounds, and without waiting for a writer that never comes.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// All of a regular file of at most `most` bytes. A pipe would wait until somebody writes, and a device may have no end.
/// Blocks on the disk.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Before opening, which may be what waits.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let text = format!("it is larger than {} KiB", most >> 10);
        return Err(io::Error::other(text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{process::Command, sync::mpsc, thread, time::Duration};

    #[test]
    fn a_pipe_a_device_a_folder_and_a_file_without_end_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let made = Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        fs::write(at("long"), vec![b'x'; 1025]).unwrap();
        fs::write(at("good"), vec![b'x'; 1024]).unwrap();
        assert_eq!(read(&at("good"), 1024).unwrap().len(), 1024);
        let (tell, hear) = mpsc::channel();
        let wrong = [at("pipe"), at("long"), at(""), "/dev/zero".into()];
        let count = wrong.len();
        thread::spawn(move || {
            for path in wrong {
                let _ = tell.send(read(&path, 1024).is_err());
            }
        });
        for _ in 0..count {
            assert!(hear.recv_timeout(Duration::from_secs(20)).unwrap());
        }
    }
}
