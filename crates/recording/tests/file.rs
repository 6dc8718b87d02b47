//! Whole recordings on disk: written, read back, altered, cut, refused.
#![cfg(test)]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use halligan_recording::header::Preamble;
use halligan_recording::record::MAX_RECORD_BYTES;
use halligan_recording::{
    Budget, Class, DataKey, Direction, Durability, Finished, Hash, Identity, Outcome, ReadError, Record,
    RecordKind, RecordingError, RecordingMeta, RecordingReader, RecordingWriter, age_file, recover,
    verify_digest,
};
use proptest::prelude::*;

mod story {
    use super::*;

    pub const ROOMY: Budget = Budget { spool_bytes: 1 << 30 };

    pub fn meta(id: &str) -> RecordingMeta {
        RecordingMeta {
            recording_id: id.into(),
            session_id: "ses-1".into(),
            class: Class::Readable,
            started_at_micros: 1_700_000_000_000_000,
        }
    }

    pub fn output(at: u64, bytes: impl Into<Bytes>) -> Record {
        Record::new(at, RecordKind::Output { channel: 1, bytes: bytes.into() })
    }

    pub fn small_story() -> Vec<Record> {
        vec![
            Record::new(0, RecordKind::SessionStart { metadata: r#"{"person":"lovelace"}"#.into() }),
            Record::new(5, RecordKind::ChannelOpen { channel: 1, kind: "shell".into() }),
            output(10, &b"$ "[..]),
            output(20, b"the same line\r\n".repeat(60)),
            Record::new(
                30,
                RecordKind::TransferEnd {
                    channel: 2,
                    path: "/etc/hosts".into(),
                    direction: Direction::Download,
                    bytes: 7,
                    sha256: Hash::of(b"content"),
                    outcome: Outcome::Done,
                },
            ),
            Record::new(
                40,
                RecordKind::StatementBegin {
                    channel: 3,
                    number: 1,
                    class: "read".into(),
                    role: "operate".into(),
                    database: "orders".into(),
                    text: "select $1".into(),
                    parameters: Some("[1]".into()),
                },
            ),
            Record::new(
                50,
                RecordKind::StatementEnd {
                    channel: 3,
                    number: 1,
                    outcome: Outcome::Done,
                    tag: "SELECT 1".into(),
                    rows: Some(1),
                    duration_micros: 10,
                },
            ),
        ]
    }

    /// One frame a record; gives the file, the key and what `finish` said.
    pub fn recorded(folder: &Path, records: &[Record]) -> (PathBuf, Identity, Finished) {
        let identity = Identity::generate().unwrap();
        let mut writer = RecordingWriter::create(
            folder,
            meta("rec-1"),
            &[identity.recipient()],
            ROOMY,
            Durability::Windowed,
        )
        .unwrap();
        for record in records {
            writer.write(record).unwrap();
        }
        let finished = writer.finish(99, "given back").unwrap();
        (finished.path.clone(), identity, finished)
    }

    pub fn key_of(file: &[u8], identity: &Identity) -> DataKey {
        let preamble = Preamble::read(&mut Cursor::new(file)).unwrap();
        age_file::unwrap(&preamble.wrapped_key, identity).unwrap()
    }

    /// All records up to the first error.
    pub fn read(file: &[u8], key: &DataKey) -> (Vec<Record>, Option<ReadError>) {
        let mut records = Vec::new();
        let reader = match RecordingReader::from_read(Cursor::new(file), key) {
            Ok(reader) => reader,
            Err(error) => return (records, Some(error)),
        };
        for record in reader {
            match record {
                Ok(record) => records.push(record),
                Err(error) => return (records, Some(error)),
            }
        }
        (records, None)
    }

    pub fn bytes_record() -> impl Strategy<Value = Record> {
        (any::<u64>(), 0_u32..4, prop::collection::vec(any::<u8>(), 0..2000)).prop_map(
            |(at, channel, bytes)| {
                let bytes = Bytes::from(bytes);
                Record::new(at, RecordKind::Output { channel, bytes })
            },
        )
    }
}
use story::*;

#[test]
fn what_was_written_is_read_back_with_matching_digests() {
    let folder = tempfile::tempdir().unwrap();
    let (path, identity, finished) = recorded(folder.path(), &small_story());
    let mut reader = RecordingReader::open_as(&path, &identity).unwrap();
    assert_eq!(reader.header().session_id, "ses-1");
    let mut records: Vec<Record> = reader.by_ref().map(Result::unwrap).collect();
    assert_eq!(records.pop().unwrap().kind, RecordKind::End { reason: "given back".into() });
    assert_eq!(records, small_story());

    let (header, digest) = verify_digest(&path).unwrap();
    assert_eq!(header.recipients, [identity.recipient().to_string()]);
    assert_eq!(Some(&digest), reader.digest());
    let file = fs::read(&path).unwrap();
    assert_eq!(finished.sha256, Hash::of(&file));
    assert_eq!((finished.sha256, finished.chain_head), (digest.sha256, digest.chain_head));
    assert_eq!((finished.bytes, finished.frames), (file.len() as u64, 8));
    assert_eq!((finished.records, finished.duration_micros), (Some(8), Some(99)));
    assert!(finished.complete && digest.complete && digest.tail_bytes == 0);

    let recovered = recover(&path).unwrap();
    assert_eq!(recovered, Finished { records: None, duration_micros: None, ..finished });

    // The file is the owner's alone, and says nothing in clear of what happened.
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for secret in [&b"the same line"[..], b"/etc/hosts", b"given back", b"lovelace"] {
        assert!(!file.windows(secret.len()).any(|window| window == secret));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn batches_of_any_size_round_trip(
        batches in prop::collection::vec(prop::collection::vec(bytes_record(), 0..8), 0..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let key = DataKey::generate().unwrap();
        let to = [Identity::generate().unwrap().recipient()];
        let mut writer =
            RecordingWriter::create_with_key(folder.path(), meta("r"), &key, &to, ROOMY, Durability::Windowed).unwrap();
        for batch in &batches {
            writer.write_batch(batch).unwrap();
        }
        let finished = writer.finish(0, "x").unwrap();
        let (mut records, error) = read(&fs::read(&finished.path).unwrap(), &key);
        prop_assert!(error.is_none());
        prop_assert_eq!(records.pop().unwrap().kind, RecordKind::End { reason: "x".into() });
        prop_assert_eq!(finished.records, Some(records.len() as u64 + 1));
        prop_assert_eq!(records, batches.concat());
    }

    #[test]
    fn any_bytes_after_a_good_header_give_an_error_or_a_gap(junk in prop::collection::vec(any::<u8>(), 1..300)) {
        let folder = tempfile::tempdir().unwrap();
        let (path, identity, _) = recorded(folder.path(), &[]);
        let file = fs::read(&path).unwrap();
        let key = key_of(&file, &identity);
        let preamble = Preamble::read(&mut Cursor::new(&file)).unwrap();
        let mut altered = file[..preamble.bytes as usize].to_vec();
        altered.extend_from_slice(&junk);
        let (records, error) = read(&altered, &key);
        let gap = records.last().is_some_and(|record| matches!(record.kind, RecordKind::Gap { .. }));
        prop_assert!(error.is_some() || gap);
        let _ = read(&junk, &key);
    }
}

#[test]
fn a_batch_larger_than_a_frame_takes_several_and_keeps_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut noise = vec![0; MAX_RECORD_BYTES - 20];
    getrandom::fill(&mut noise).unwrap();
    let batch: Vec<Record> = (0..3).map(|at| output(at, noise.clone())).collect();
    let identity = Identity::generate().unwrap();
    let to = [identity.recipient()];
    let mut writer =
        RecordingWriter::create(folder.path(), meta("r"), &to, ROOMY, Durability::Windowed).unwrap();
    writer.write_batch(&batch).unwrap();
    assert!(writer.sync_due(0), "more than 1 MiB waits");
    let finished = writer.finish(9, "x").unwrap();
    assert_eq!(finished.frames, 4);
    let records: Vec<Record> =
        RecordingReader::open_as(&finished.path, &identity).unwrap().map(Result::unwrap).collect();
    assert_eq!(records[..3], batch);
}

#[test]
fn every_flipped_bit_is_noticed_with_the_key_and_by_the_digest() {
    let folder = tempfile::tempdir().unwrap();
    let (path, identity, finished) = recorded(folder.path(), &small_story());
    let file = fs::read(&path).unwrap();
    let key = key_of(&file, &identity);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut altered = file.clone();
            altered[at] ^= 1 << bit;
            let (records, error) = read(&altered, &key);
            let noticed = error.is_some() || matches!(records.last().unwrap().kind, RecordKind::Gap { .. });
            assert!(noticed, "bit {bit} of byte {at} was not noticed by the reader");
            let told = records.iter().filter(|record| !matches!(record.kind, RecordKind::Gap { .. }));
            assert!(told.zip(small_story()).all(|(read, written)| *read == written), "nothing false is told");
            if bit == at % 8 {
                let digest = halligan_recording::digest::digest_of(Cursor::new(&altered));
                assert!(digest.is_err() || digest.unwrap().1.sha256 != finished.sha256);
            }
        }
    }
}

#[test]
fn a_cut_at_any_byte_is_readable_to_the_last_whole_frame_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (path, identity, finished) = recorded(folder.path(), &small_story());
    let file = fs::read(&path).unwrap();
    let key = key_of(&file, &identity);
    let begin = Preamble::read(&mut Cursor::new(&file)).unwrap().bytes as usize;
    let mut most = 0;
    for cut in 0..file.len() {
        let (records, error) = read(&file[..cut], &key);
        if cut < begin {
            assert!(matches!(error, Some(ReadError::ShortHeader)));
            continue;
        }
        assert!(error.is_none());
        let (gap, whole) = records.split_last().unwrap();
        assert!(matches!(gap.kind, RecordKind::Gap { .. }));
        assert_eq!(whole, &small_story()[..whole.len()]);
        most = most.max(whole.len());

        let torn = folder.path().join("torn");
        fs::write(&torn, &file[..cut]).unwrap();
        let recovered = recover(&torn).unwrap();
        assert!(!recovered.complete);
        assert_eq!((recovered.bytes, recovered.frames), (cut as u64, whole.len() as u64));
        assert_eq!(recovered.sha256, Hash::of(&file[..cut]));
        assert_eq!(fs::read(&torn).unwrap(), &file[..cut], "recovery changes nothing");
    }
    assert_eq!(most, small_story().len());
    assert_eq!(finished.frames, most as u64 + 1);
}

#[test]
fn frames_cannot_be_dropped_swapped_repeated_or_moved_between_recordings() {
    let folder = tempfile::tempdir().unwrap();
    let (path, identity, _) = recorded(folder.path(), &small_story());
    let file = fs::read(&path).unwrap();
    let key = key_of(&file, &identity);
    let begin = Preamble::read(&mut Cursor::new(&file)).unwrap().bytes as usize;
    let mut frames = Vec::new();
    let mut at = begin;
    while at < file.len() {
        let length = u32::from_be_bytes(file[at + 1..at + 5].try_into().unwrap()) as usize + 5;
        frames.push(&file[at..at + length]);
        at += length;
    }
    assert_eq!(frames.len(), 8);
    for order in [
        &[1, 2, 3, 4, 5, 6, 7][..],
        &[0, 1, 3, 4, 5, 6, 7],
        &[1, 0, 2, 3, 4, 5, 6, 7],
        &[0, 0, 1, 2, 3, 4, 5, 6, 7],
        &[7],
    ] {
        let mut altered = file[..begin].to_vec();
        order.iter().for_each(|number| altered.extend_from_slice(frames[*number]));
        let error = read(&altered, &key).1;
        assert!(matches!(error, Some(ReadError::Frame { .. })), "{order:?}: {error:?}");
    }
    for more in [&b"\0"[..], frames[0]] {
        let longer = [&file, more].concat();
        assert!(matches!(read(&longer, &key).1, Some(ReadError::AfterTheEnd { frame: 8 })));
        assert!(
            recover(&{
                let path = folder.path().join("longer");
                fs::write(&path, &longer).unwrap();
                path
            })
            .is_err()
        );
    }
    let other = DataKey::generate().unwrap();
    assert!(matches!(read(&file, &other).1, Some(ReadError::Frame { frame: 0, .. })));
}

#[test]
fn blocks_of_zeros_after_a_power_cut_are_a_gap_but_only_zeros_are() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate().unwrap();
    let mut writer = RecordingWriter::create(
        folder.path(),
        meta("r"),
        &[identity.recipient()],
        ROOMY,
        Durability::Windowed,
    )
    .unwrap();
    writer.write(&output(1, &b"seen"[..])).unwrap();
    // The writer is still there: what it has written does not wait in its memory.
    let mut file = fs::read(writer.path()).unwrap();
    let key = key_of(&file, &identity);
    file.extend_from_slice(&[0; 9000]);
    let (records, error) = read(&file, &key);
    assert!(error.is_none());
    assert_eq!(records[0], output(1, &b"seen"[..]));
    assert!(matches!(&records[1].kind, RecordKind::Gap { reason } if reason.contains("9000")));
    *file.last_mut().unwrap() = 1;
    assert!(matches!(read(&file, &key).1, Some(ReadError::Frame { frame: 1, .. })));
}

#[test]
fn a_spent_budget_refuses_everything_but_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate().unwrap();
    let to = [identity.recipient()];
    let budget = Budget { spool_bytes: 20_000 };
    let mut writer =
        RecordingWriter::create(folder.path(), meta("r"), &to, budget, Durability::Windowed).unwrap();
    let mut noise = vec![0; 1000];
    getrandom::fill(&mut noise).unwrap();
    let mut written = 0;
    let error = loop {
        match writer.write(&output(written, noise.clone())) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 20);
    };
    assert!(matches!(error, RecordingError::BudgetSpent { spool_bytes: 20_000 }));
    assert!(written > 10 && writer.is_poisoned());
    assert!(writer.write(&output(0, &b"x"[..])).is_err(), "not even a small one fits any more");
    let finished = writer.finish(written, &"spool spent ".repeat(400)).unwrap();
    assert!(finished.bytes <= 20_000 && finished.complete);
    assert_eq!(finished.records, Some(written + 1));
    let records = RecordingReader::open_as(&finished.path, &identity).unwrap().map(Result::unwrap).count();
    assert_eq!(records as u64, written + 1);

    let tiny = Budget { spool_bytes: 100 };
    let refused = RecordingWriter::create(folder.path(), meta("t"), &to, tiny, Durability::Windowed);
    assert!(matches!(refused, Err(RecordingError::BudgetSpent { .. })));
    assert!(!folder.path().join("t.hrec").exists());
}

#[test]
fn a_full_disk_is_an_error_and_poisons() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(folder.path())
        .output()
        .is_ok_and(|done| done.status.success());
    let identity = Identity::generate().unwrap();
    let to = [identity.recipient()];
    if mounted {
        let _unmount = Unmount(folder.path());
        let mut writer =
            RecordingWriter::create(folder.path(), meta("r"), &to, ROOMY, Durability::Windowed).unwrap();
        let mut noise = vec![0; 3000];
        getrandom::fill(&mut noise).unwrap();
        let written = (0..100).take_while(|at| writer.write(&output(*at, noise.clone())).is_ok()).count();
        assert!((10..30).contains(&written), "{written}");
        assert!(writer.is_poisoned());
        fs::write(folder.path().join("reserve"), b"").unwrap();
        assert!(matches!(writer.write(&output(0, &b"x"[..])), Err(RecordingError::Poisoned)));
        assert!(matches!(writer.sync(), Err(RecordingError::Poisoned)));
        let path = writer.path().to_owned();
        assert!(matches!(writer.finish(0, "x"), Err(RecordingError::Poisoned)));
        assert_eq!(recover(&path).unwrap().frames, written as u64);
        let told = RecordingReader::open_as(&path, &identity).unwrap().map(Result::unwrap).count();
        assert_eq!(told, written + 1, "the records and a gap");

        // Nothing of a recording that could not begin is left behind.
        let refused = RecordingWriter::create(folder.path(), meta("q"), &to, ROOMY, Durability::Windowed);
        assert!(matches!(refused, Err(RecordingError::Disk { .. })));
        assert!(!folder.path().join("q.hrec").exists());
    }
    // Without the right to mount, the writer's own test with the device that is always full remains.
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _done = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn misuse_is_refused_and_poisons() {
    let folder = tempfile::tempdir().unwrap();
    let to = [Identity::generate().unwrap().recipient()];
    let create = |id: &str| RecordingWriter::create(folder.path(), meta(id), &to, ROOMY, Durability::Strict);
    for bad in ["", "..", "a/b", "a.b", "\u{e9}", "a\0", &"x".repeat(129)] {
        assert!(matches!(create(bad), Err(RecordingError::BadName { .. })), "{bad:?}");
    }
    let mut writer = create("one").unwrap();
    assert!(matches!(create("one"), Err(RecordingError::Disk { doing: "create", .. })), "never overwritten");
    assert!(matches!(
        writer.write(&Record::new(0, RecordKind::End { reason: "x".into() })),
        Err(RecordingError::EndByHand)
    ));
    assert!(matches!(writer.write(&output(0, &b"x"[..])), Err(RecordingError::Poisoned)));
    let mut writer = create("two").unwrap();
    let long = output(0, vec![0; MAX_RECORD_BYTES]);
    assert!(matches!(writer.write(&long), Err(RecordingError::TooLong(_))));
    assert!(writer.is_poisoned());
    let nobody = RecordingWriter::create(folder.path(), meta("three"), &[], ROOMY, Durability::Strict);
    assert!(matches!(nobody, Err(RecordingError::Wrap(_))), "a recording that nobody could open");
}

#[test]
fn syncs_are_due_after_250_ms_and_a_sync_elsewhere_keeps_the_time_of_later_records() {
    let folder = tempfile::tempdir().unwrap();
    let to = [Identity::generate().unwrap().recipient()];
    let mut writer =
        RecordingWriter::create(folder.path(), meta("r"), &to, ROOMY, Durability::Windowed).unwrap();
    assert!(!writer.sync_due(u64::MAX), "nothing waits");
    writer.write(&output(1_000, &b"a"[..])).unwrap();
    writer.write(&output(200_000, &b"b"[..])).unwrap();
    assert!(!writer.sync_due(250_999) && writer.sync_due(251_000));
    let point = writer.sync_point().unwrap();
    writer.write(&output(300_000, &b"c"[..])).unwrap();
    assert!(writer.sync_due(300_000), "until the result is back");
    let done = std::thread::spawn(|| point.run()).join().unwrap();
    writer.synced(done).unwrap();
    assert!(!writer.sync_due(549_999) && writer.sync_due(550_000));
    // Two at once: what the second covers stays due until its own result is back.
    let first = writer.sync_point().unwrap();
    writer.append(&[output(560_000, &b"c"[..])]).unwrap();
    let second = writer.sync_point().unwrap();
    writer.write(&output(580_000, &b"c"[..])).unwrap();
    writer.synced(first.run()).unwrap();
    assert!(!writer.is_synced() && writer.sync_due(550_000));
    writer.synced(second.run()).unwrap();
    assert!(!writer.is_synced() && !writer.sync_due(829_999) && writer.sync_due(830_000));
    writer.sync().unwrap();
    assert!(!writer.sync_due(u64::MAX));
    writer.write_milestone(&output(600_000, &b"d"[..])).unwrap();
    assert!(!writer.sync_due(u64::MAX));

    let mut strict =
        RecordingWriter::create(folder.path(), meta("s"), &to, ROOMY, Durability::Strict).unwrap();
    strict.write(&output(1, &b"a"[..])).unwrap();
    assert!(!strict.sync_due(u64::MAX));
}

#[test]
fn a_statement_that_may_change_something_is_on_the_disk_before_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let to = [Identity::generate().unwrap().recipient()];
    let mut writer =
        RecordingWriter::create(folder.path(), meta("r"), &to, ROOMY, Durability::Windowed).unwrap();
    let statement = |class: &str| {
        Record::new(
            1,
            RecordKind::StatementBegin {
                channel: 1,
                number: 1,
                class: class.into(),
                role: "operate".into(),
                database: "orders".into(),
                text: "…".into(),
                parameters: None,
            },
        )
    };
    for class in ["write", "schema", "privilege", "unknown"] {
        writer.write_batch(&[statement("read"), output(1, &b"a"[..])]).unwrap();
        assert!(writer.sync_due(u64::MAX), "a read waits for the others");
        writer.write_batch(&[statement("read"), statement(class)]).unwrap();
        assert!(!writer.sync_due(u64::MAX), "{class}");
    }
}
