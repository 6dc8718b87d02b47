use proptest::prelude::*;

use super::super::wire::DATA;
use super::*;

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 1).to_be_bytes().to_vec();
    out.push(kind);
    out.extend_from_slice(body);
    out
}

fn text(value: &[u8]) -> Vec<u8> {
    [&(value.len() as u32).to_be_bytes(), value].concat()
}

fn request(kind: u8, id: u32, body: &[&[u8]]) -> Vec<u8> {
    packet(kind, &[&id.to_be_bytes()[..], &body.concat()].concat())
}

fn status(id: u32, code: u32) -> Vec<u8> {
    request(STATUS, id, &[&code.to_be_bytes(), &text(b"words"), &text(b"")])
}

/// One step of a conversation: who sends what.
type Step = (bool, Vec<u8>);

fn greeting() -> Vec<Step> {
    vec![(true, packet(INIT, &3_u32.to_be_bytes())), (false, packet(VERSION, &3_u32.to_be_bytes()))]
}

/// An upload in two pipelined writes, a download with a short last read, a rename, a failed remove.
fn conversation() -> Vec<Step> {
    let mut steps = greeting();
    let write =
        |id, offset: u64, data: &[u8]| request(6, id, &[&text(b"h1"), &offset.to_be_bytes(), &text(data)]);
    let read = |id, offset: u64| request(5, id, &[&text(b"h2"), &offset.to_be_bytes(), &4_u32.to_be_bytes()]);
    steps.extend([
        (true, request(16, 0, &[&text(b".")])),
        (
            false,
            request(
                NAME,
                0,
                &[&1_u32.to_be_bytes(), &text(b"/home/app"), &text(b"long"), &0_u32.to_be_bytes()],
            ),
        ),
        (true, request(3, 1, &[&text(b"up.bin"), &0x1a_u32.to_be_bytes(), &0_u32.to_be_bytes()])),
        (false, request(HANDLE, 1, &[&text(b"h1")])),
        (true, [write(2, 0, b"hello "), write(3, 6, b"world")].concat()),
        (false, [status(2, 0), status(3, 0)].concat()),
        (true, request(4, 4, &[&text(b"h1")])),
        (false, status(4, 0)),
        (true, request(3, 5, &[&text(b"/etc/x"), &1_u32.to_be_bytes(), &0_u32.to_be_bytes()])),
        (false, request(HANDLE, 5, &[&text(b"h2")])),
        (true, [read(6, 0), read(7, 4), read(8, 8)].concat()),
        (
            false,
            [request(DATA, 6, &[&text(b"abcd")]), request(DATA, 7, &[&text(b"ef")]), status(8, 1)].concat(),
        ),
        (true, request(4, 9, &[&text(b"h2")])),
        (false, status(9, 0)),
        (true, request(200, 10, &[&text(b"posix-rename@openssh.com"), &text(b"/a"), &text(b"/b")])),
        (false, status(10, 0)),
        (true, request(13, 11, &[&text(b"/b")])),
        (false, status(11, 3)),
    ]);
    steps
}

fn play(steps: &[Step], piece: usize) -> Result<(Vec<RecordKind>, Vec<TransferDone>), Unreadable> {
    let mut audit = SftpAudit::new(7, 0);
    for (from_client, bytes) in steps {
        for part in bytes.chunks(piece.max(1)) {
            let part = Bytes::copy_from_slice(part);
            if *from_client { audit.upward(&part)? } else { audit.downward(&part)? }
        }
    }
    audit.finish();
    Ok((audit.take_records(), audit.take_done()))
}

#[test]
fn transfers_and_operations_are_told_with_paths_digests_and_outcomes() {
    let (records, done) = play(&conversation(), 1_000).unwrap();
    let digest = |bytes: &[u8]| Hash(Sha256::digest(bytes).into());
    assert_eq!(
        done,
        [
            TransferDone {
                path: "/home/app/up.bin".into(),
                direction: Direction::Upload,
                bytes: 11,
                sha256: digest(b"hello world")
            },
            TransferDone {
                path: "/etc/x".into(),
                direction: Direction::Download,
                bytes: 6,
                sha256: digest(b"abcdef")
            },
        ]
    );
    let told: Vec<String> = records
        .iter()
        .map(|record| match record {
            RecordKind::Command { text, .. } => text.clone(),
            RecordKind::FileOp { op, path, path2, outcome, .. } => {
                format!("{op} {path} {} {outcome}", path2.as_deref().unwrap_or("-"))
            }
            RecordKind::TransferBegin { path, direction, .. } => format!("begin {} {path}", direction.word()),
            RecordKind::TransferEnd { path, bytes, outcome, .. } => format!("end {path} {bytes} {outcome}"),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            "sftp open /home/app/up.bin (write, create, truncate)",
            "open /home/app/up.bin - done",
            "begin upload /home/app/up.bin",
            "end /home/app/up.bin 11 done",
            "open /etc/x - done",
            "begin download /etc/x",
            "end /etc/x 6 done",
            "sftp rename /a /b",
            "rename /a /b done",
            "sftp remove /b",
            "remove /b - failed: words",
        ]
    );
}

#[test]
fn what_was_asked_is_on_record_before_the_reply() {
    let mut audit = SftpAudit::new(0, 0);
    for (from_client, bytes) in greeting() {
        let bytes = Bytes::from(bytes);
        if from_client { audit.upward(&bytes).unwrap() } else { audit.downward(&bytes).unwrap() }
    }
    let remove = Bytes::from(request(13, 1, &[&text(b"/srv/data")]));
    audit.upward(&remove.slice(..10)).unwrap();
    assert!(audit.take_records().is_empty());
    audit.upward(&remove.slice(10..)).unwrap();
    assert_eq!(
        audit.take_records(),
        [RecordKind::Command { channel: 0, text: "sftp remove /srv/data".into() }]
    );
}

#[test]
fn parts_out_of_order_are_noted_and_a_cut_transfer_is_told_as_failed() {
    let mut steps = greeting();
    let write = |id, offset: u64| request(6, id, &[&text(b"h"), &offset.to_be_bytes(), &text(b"xx")]);
    steps.extend([
        (true, request(3, 1, &[&text(b"/f"), &2_u32.to_be_bytes(), &0_u32.to_be_bytes()])),
        (false, request(HANDLE, 1, &[&text(b"h")])),
        (true, [write(2, 2), write(3, 0)].concat()),
    ]);
    let (records, done) = play(&steps, 3).unwrap();
    assert_eq!(done.len(), 1);
    assert!(records.iter().any(|r| matches!(r, RecordKind::Note { text } if text.contains("out of order"))));
    assert!(
        records.iter().any(|r| matches!(r, RecordKind::TransferEnd { outcome: Outcome::Failed { .. }, .. }))
    );
}

#[test]
fn content_is_kept_up_to_the_limit() {
    let mut audit = SftpAudit::new(0, 8);
    for (from_client, bytes) in conversation() {
        let bytes = Bytes::from(bytes);
        if from_client { audit.upward(&bytes).unwrap() } else { audit.downward(&bytes).unwrap() }
    }
    let kept: Vec<u8> = audit
        .take_records()
        .into_iter()
        .filter_map(|record| match record {
            RecordKind::Content { direction: Direction::Upload, bytes, .. } => Some(bytes.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(kept, b"hello wo");
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let read = |id: u32| request(5, id, &[&text(b"h"), &0_u64.to_be_bytes(), &4_u32.to_be_bytes()]);
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("a request before the version", vec![(true, request(13, 1, &[&text(b"/x")]))]),
        (
            "another version",
            vec![(true, packet(INIT, &6_u32.to_be_bytes())), (false, packet(VERSION, &6_u32.to_be_bytes()))],
        ),
        ("a huge packet", vec![(true, vec![0xff, 0xff, 0xff, 0xff, 1])]),
        ("an empty packet", vec![(true, vec![0, 0, 0, 0, 1])]),
        ("a long packet that would be gathered", [greeting(), vec![(true, vec![0, 8, 0, 0, 13])]].concat()),
        ("an unknown type", [greeting(), vec![(true, request(77, 1, &[]))]].concat()),
        ("a reply to nothing", [greeting(), vec![(false, status(9, 0))]].concat()),
        ("data for nothing", [greeting(), vec![(false, request(DATA, 1, &[&text(b"x")]))]].concat()),
        (
            "more data than asked",
            [greeting(), vec![(true, read(1)), (false, request(DATA, 1, &[&text(b"12345")]))]].concat(),
        ),
        ("one number twice", [greeting(), vec![(true, [read(1), read(1)].concat())]].concat()),
        (
            "a write that does not fit",
            [
                greeting(),
                vec![(
                    true,
                    request(6, 1, &[&text(b"h"), &0_u64.to_be_bytes(), &9_u32.to_be_bytes(), b"xx"]),
                )],
            ]
            .concat(),
        ),
        (
            "a long handle",
            [
                greeting(),
                vec![(true, request(6, 1, &[&text(&[b'h'; 300]), &0_u64.to_be_bytes(), &text(b"x")]))],
            ]
            .concat(),
        ),
        ("a short request", [greeting(), vec![(true, request(13, 1, &[&[0, 0, 0, 9]]))]].concat()),
    ];
    for (what, steps) in cases {
        assert!(play(&steps, 5).is_err(), "{what}");
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_stream_is_cut(piece in 1_usize..200) {
        prop_assert_eq!(play(&conversation(), piece).unwrap(), play(&conversation(), 100_000).unwrap());
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..40),
        agreed in any::<bool>(),
    ) {
        let mut steps = if agreed { greeting() } else { Vec::new() };
        steps.extend(pieces);
        let _ = play(&steps, 7);
    }

    #[test]
    fn packets_with_any_body_are_read_or_refused(
        packets in proptest::collection::vec(
            (any::<bool>(), prop_oneof![1_u8..21, 100_u8..106, Just(200_u8), Just(201)], 0_u32..4,
             proptest::collection::vec(any::<u8>(), 0..60)),
            0..60,
        ),
    ) {
        let mut audit = SftpAudit::new(0, 16);
        for (from_client, bytes) in greeting() {
            let bytes = Bytes::from(bytes);
            if from_client { audit.upward(&bytes).unwrap() } else { audit.downward(&bytes).unwrap() }
        }
        for (from_client, kind, id, body) in packets {
            let bytes = Bytes::from(request(kind, id, &[&text(&body), &body]));
            let read = if from_client { audit.upward(&bytes) } else { audit.downward(&bytes) };
            if read.is_err() { break }
        }
        audit.finish();
    }
}
