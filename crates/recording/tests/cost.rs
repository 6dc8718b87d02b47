//! What recording costs: time per small frame and per MiB (printed), memory per idle writer (held).
#![cfg(test)]

use std::time::Instant;

use halligan_recording::{
    Budget, Class, Durability, Identity, Record, RecordKind, RecordingMeta, RecordingReader, RecordingWriter,
};

mod measure {
    use super::*;

    pub fn writer(folder: &std::path::Path, id: String) -> RecordingWriter {
        let to = [Identity::generate().unwrap().recipient()];
        let meta = RecordingMeta {
            recording_id: id,
            session_id: "s".into(),
            class: Class::Sealed,
            started_at_micros: 0,
        };
        RecordingWriter::create(folder, meta, &to, Budget { spool_bytes: 1 << 32 }, Durability::Windowed)
            .unwrap()
    }

    pub fn output(bytes: &[u8]) -> Record {
        Record::new(1, RecordKind::Output { channel: 1, bytes: bytes.to_vec().into() })
    }

    /// Resident memory of this process, in bytes.
    pub fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}
use measure::*;

#[test]
fn cost_of_writing_and_memory_of_an_idle_writer() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = writer(folder.path(), "one".into());

    let key = output(b"l");
    let rounds = 20_000;
    let begin = Instant::now();
    for _ in 0..rounds {
        one.write(&key).unwrap();
    }
    println!("small frame: {:.2} µs", begin.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));

    let line = b"Nov 22 03:40:11 orders-db-1 postgres[4242]: LOG:  checkpoint complete: wrote 42 buffers\r\n";
    let text = output(&line.repeat(32 * 1024 / line.len()));
    let mut noise = vec![0; 32 * 1024];
    getrandom::fill(&mut noise).unwrap();
    let noise = output(&noise);
    for (name, record) in [("text", &text), ("noise", &noise)] {
        let begin = Instant::now();
        for _ in 0..64 {
            one.write(record).unwrap();
        }
        println!("{name}: {:.2} ms per MiB", begin.elapsed().as_secs_f64() * 1e3 / 2.0);
    }
    let path = one.finish(2, "x").unwrap().path;
    let begin = Instant::now();
    let bytes = halligan_recording::verify_digest(&path).unwrap().1.bytes;
    let mib = bytes as f64 / (1 << 20) as f64;
    println!("digest: {:.2} ms per MiB", begin.elapsed().as_secs_f64() * 1e3 / mib);

    let count = 1000_u64;
    let mut writers = Vec::with_capacity(count as usize);
    let before = resident();
    for number in 0..count {
        let mut writer = writer(folder.path(), format!("idle-{number}"));
        writer.write(&text).unwrap();
        writers.push(writer);
    }
    let each = resident().saturating_sub(before) / count;
    println!("idle writer: {} bytes of struct, {each} bytes resident", size_of::<RecordingWriter>());
    assert!(size_of::<RecordingWriter>() < 1024);
    assert!(each < 16 * 1024, "an idle writer takes {each} bytes");
    assert_eq!(writers.len() as u64, count);
}

#[test]
fn a_wrong_identity_learns_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = writer(folder.path(), "one".into()).finish(0, "x").unwrap().path;
    let error = RecordingReader::open_as(&path, &Identity::generate().unwrap()).err().unwrap();
    assert_eq!(error.to_string(), "the recording's key could not be unwrapped");
}
