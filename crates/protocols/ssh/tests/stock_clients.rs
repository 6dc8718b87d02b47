//! Stock `ssh`, `scp` and `sftp` through the gateway to a real sshd.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail loudly")]

mod support;

use std::time::{Duration, Instant};

use halligan_recording::RecordKind;
use halligan_session::{EndReason, NodeEvent};
use support::{LOGIN, World, noise, sha256, transfers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_pass_with_exit_code_input_and_standard_error_apart() {
    let world = World::new().await;
    let client = world.client();
    let run = client.ssh(world.port, LOGIN, "echo out; echo err >&2; exit 7").await.unwrap();
    assert_eq!((run.code, run.text().as_str(), run.stderr.as_str()), (Some(7), "out\n", "err\n"));

    let records = world.records().await;
    let stderr =
        |r: &RecordKind| matches!(r, RecordKind::Stderr { bytes, .. } if bytes == "err\n".as_bytes());
    assert!(records.iter().any(stderr), "{records:?}");
    let bulk = |r: &RecordKind| matches!(r, RecordKind::Bulk { bytes: 4, sha256, .. } if hex::encode(sha256.0) == support::sha256(b"out\n"));
    assert!(records.iter().any(bulk), "{records:?}");
    let end = |r: &RecordKind| matches!(r, RecordKind::ChannelEnd { exit_status: Some(7), .. });
    assert!(records.iter().any(end), "{records:?}");
    let milestones = world.milestones();
    assert!(
        milestones.iter().any(|event| matches!(event, NodeEvent::ChannelOpened { kind, detail, .. }
            if kind == "exec" && detail == "echo out; echo err >&2; exit 7")),
        "{milestones:?}"
    );
    assert!(
        milestones
            .iter()
            .any(|event| matches!(event, NodeEvent::ChannelEnded { outcome, .. } if outcome == "exit 7"))
    );

    let quick = client.ssh(world.port, LOGIN, "true").await.unwrap().ok().unwrap();
    println!("time to the end of `true`: {:?}", quick.duration);
    assert!(
        quick.duration < Duration::from_millis(900),
        "something waits that should not: {:?}",
        quick.duration
    );
    let echoed =
        client.ssh_with_input(world.port, LOGIN, "cat", b"through and back").await.unwrap().ok().unwrap();
    assert_eq!(echoed.stdout, b"through and back");
    let killed = client.ssh(world.port, LOGIN, "kill -TERM $$").await.unwrap();
    assert_eq!(killed.code, Some(255), "ssh reports a signal as 255: {killed:?}");
    world.records().await;
    assert!(
        world
            .milestones()
            .iter()
            .any(|e| matches!(e, NodeEvent::ChannelEnded { outcome, .. } if outcome == "signal TERM")),
        "{:?}",
        world.milestones()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_on_a_terminal_is_recorded_and_says_so() {
    let world = World::new().await;
    let client =
        world.client().option("SendEnv", "LANG LC_TIME").option("SetEnv", "LD_PRELOAD=/tmp/x LC_TIME=C");
    let mut shell = client.ssh_live(world.port, LOGIN, &["-tt"], "").unwrap();
    shell.send(b"stty size; echo term=$TERM; echo pre=$LD_PRELOAD.; tty; echo done-n''ow\n").await.unwrap();
    shell.wait_for("done-now", Duration::from_secs(10)).await.unwrap();
    let seen = shell.output();
    assert!(seen.contains("term=xterm") && seen.contains("/dev/pts/") && seen.contains("pre=."), "{seen}");
    let said = shell.complaints();
    assert!(
        said.contains("Rita Responder on orders-host/app for inc_") && said.contains("is recorded"),
        "{said}"
    );
    world.last_session().warnings.send_replace(Some("Your access ends in 5 minutes.".into()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        shell.complaints().contains("Halligan: Your access ends in 5 minutes."),
        "{}",
        shell.complaints()
    );
    shell.send(b"exit 3\n").await.unwrap();
    assert_eq!(shell.ended().await.unwrap().code, Some(3));
    let records = world.records().await;
    let output: Vec<u8> = records
        .iter()
        .filter_map(|r| match r {
            RecordKind::Output { bytes, .. } => Some(bytes.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(String::from_utf8_lossy(&output).contains("done-now"));
    assert!(
        !records.iter().any(|r| matches!(r, RecordKind::Input { .. })),
        "typed input is not kept by default"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_pass_whole_and_their_digests_are_on_record() {
    let world = World::new().await;
    let (client, remote) = (world.client(), world.remote());
    let content = noise(3_000_000);
    let digest = sha256(&content);
    let (here, back) = (client.home().join("here.bin"), client.home().join("back.bin"));
    std::fs::write(&here, &content).unwrap();
    let there = remote.path().join("there.bin");
    let (here_text, back_text, there_text) =
        (here.display().to_string(), back.display().to_string(), there.display().to_string());

    for (arguments, tool) in [(&[][..], ""), (&["-O"][..], "scp:")] {
        let remote_end = format!("remote:{there_text}");
        client
            .scp_with_arguments(world.port, LOGIN, arguments, &here_text, &remote_end)
            .await
            .unwrap()
            .ok()
            .unwrap();
        assert_eq!(sha256(&std::fs::read(&there).unwrap()), digest);
        let up = transfers(&world.records().await);
        client
            .scp_with_arguments(world.port, LOGIN, arguments, &remote_end, &back_text)
            .await
            .unwrap()
            .ok()
            .unwrap();
        assert_eq!(sha256(&std::fs::read(&back).unwrap()), digest);
        let down = transfers(&world.records().await);
        let milestone = |direction: &str| {
            world.milestones().into_iter().any(|event| {
                matches!(event, NodeEvent::TransferEnded { path, direction: way, bytes, .. }
                    if way == direction && path == format!("{tool}{there_text}") && bytes >= 3_000_000)
            })
        };
        assert!(milestone("upload") && milestone("download"), "{:?}", world.milestones());
        if tool.is_empty() {
            assert_eq!(up[&there_text], ("upload done".into(), 3_000_000, digest.clone()));
            assert_eq!(down[&there_text], ("download done".into(), 3_000_000, digest.clone()));
        }
        std::fs::remove_file(&there).unwrap();
        std::fs::remove_file(&back).unwrap();
    }

    let batch = format!(
        "put {here_text} {there_text}\nget {there_text} {back_text}\nrename {there_text} {there_text}2\n\
         mkdir {there_text}.d\nchmod 600 {there_text}2\nln -s {there_text}2 {there_text}.l\nrm {there_text}2\n\
         rmdir {there_text}.d\nls -l {}\n-rm {there_text}.none\n",
        remote.path().display()
    );
    client.sftp(world.port, LOGIN, &batch).await.unwrap().ok().unwrap();
    assert_eq!(sha256(&std::fs::read(&back).unwrap()), digest);
    let records = world.records().await;
    let ops: Vec<String> = records
        .iter()
        .filter_map(|record| match record {
            RecordKind::FileOp { op, outcome, .. } => Some(format!("{op} {outcome}")),
            _ => None,
        })
        .collect();
    for expected in [
        "open done",
        "rename done",
        "mkdir done",
        "setstat done",
        "symlink done",
        "remove done",
        "rmdir done",
    ] {
        assert!(ops.iter().any(|op| op == expected), "{expected} is not in {ops:?}");
    }
    let ends = records.iter().filter(|r| matches!(r, RecordKind::TransferEnd { .. })).count();
    assert_eq!(ends, 2, "{records:?}");
    assert!(!records.iter().any(|r| matches!(r, RecordKind::Note { text } if text.contains("out of order"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_carries_many_channels_and_none_after_its_end() {
    let world = World::new().await;
    let client = world.client();
    let path = client.home().join("mux").display().to_string();
    let master = client.ssh_live(world.port, LOGIN, &["-M", "-S", &path, "-N"], "").unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !std::path::Path::new(&path).exists() {
        assert!(Instant::now() < until, "{}", master.complaints());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let arguments = ["-S", path.as_str()];
    let mut shell = client.ssh_live(world.port, LOGIN, &["-S", &path, "-tt"], "").unwrap();
    shell.send(b"echo on''e\n").await.unwrap();
    shell.wait_for("one", Duration::from_secs(10)).await.unwrap();
    let second = client.ssh_with_arguments(world.port, LOGIN, &arguments, "echo two").await.unwrap();
    assert_eq!(second.text(), "two\n");
    // A reader who pauses one channel does not hold up another.
    let paused =
        client.ssh_live(world.port, LOGIN, &["-S", &path], "yes | head -c 50000000; sleep 5").unwrap();
    let third = client.ssh_with_arguments(world.port, LOGIN, &arguments, "echo three").await.unwrap();
    assert_eq!(third.text(), "three\n");
    assert_eq!(world.control.sessions.lock().unwrap().len(), 1, "one connection, one session");
    world.last_session().stop(EndReason::Expired);
    assert_eq!(shell.ended().await.unwrap().code, Some(255));
    let late = client
        .ssh_with_arguments(
            world.port,
            LOGIN,
            &[&arguments[..], &["-o", "ControlMaster=no", "-o", "ProxyCommand=false"]].concat(),
            "echo late",
        )
        .await
        .unwrap();
    assert!(!late.success() && late.stdout.is_empty());
    drop((paused, master));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_around_the_recording_is_refused_and_on_record() {
    let world = World::new().await;
    let client = world.client().option("ExitOnForwardFailure", "yes");
    let agent_socket = client.home().join("agent").display().to_string();
    let _agent = tokio::process::Command::new("ssh-agent")
        .args(["-D", "-a", &agent_socket])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let target = format!("127.0.0.1:{}", world.sshd.port());
    let run = async |arguments: &[&str], command: &str| {
        client.ssh_with_arguments(world.port, LOGIN, arguments, command).await.unwrap()
    };
    let tunnel = run(&["-W", &target], "").await;
    assert!(!tunnel.success() && tunnel.stdout.is_empty(), "{tunnel:?}");
    let back = run(&["-N", "-R", "0:127.0.0.1:22"], "").await;
    assert!(!back.success(), "{back:?}");
    let back = run(&["-N", "-R", "/tmp/halligan-test-socket:/tmp/y"], "").await;
    assert!(!back.success(), "{back:?}");
    let script = format!("{} -A 127.0.0.1 'echo agent=$SSH_AUTH_SOCK.'", world.plain_ssh());
    let agent = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .env("SSH_AUTH_SOCK", &agent_socket)
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&agent.stdout), "agent=.\n", "{agent:?}");
    let subsystem = run(&["-s"], "netconf").await;
    assert!(!subsystem.success(), "{subsystem:?}");
    let x11 = world.client().option("ForwardX11Trusted", "yes").option("XAuthLocation", "/bin/false");
    let _display =
        x11.ssh_with_arguments(world.port, LOGIN, &["-X"], "echo display=$DISPLAY.").await.unwrap();

    // -L and -D: the listening client's channel is refused when somebody connects to it.
    let port = halligan_testkit::process::free_port().unwrap();
    for arguments in [
        vec!["-N".to_owned(), "-L".to_owned(), format!("{port}:{target}")],
        vec!["-N".to_owned(), "-L".to_owned(), format!("{port}:/run/some.sock")],
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let live = client.ssh_live(world.port, LOGIN, &arguments, "").unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        let mut stream = loop {
            match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}: {}", live.complaints()),
            }
        };
        let mut got = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut got).await.ok();
        assert!(got.is_empty(), "the target's banner came through");
        drop(live);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = world.refusals().join("\n");
    for expected in [
        &format!("channel direct-tcpip to {target}"),
        "tcpip-forward of",
        "streamlocal-forward of",
        "agent forwarding",
        "subsystem netconf",
        "direct-streamlocal to /run/some.sock",
    ] {
        assert!(refused.contains(expected), "{expected} is not in\n{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capabilities_of_the_lease_are_kept() {
    let world = World::with(
        |mut lease| {
            lease.ssh.exec = false;
            lease.ssh.sftp = false;
            lease
        },
        |sshd| sshd,
        |_| {},
    )
    .await;
    let client = world.client();
    assert!(!client.ssh(world.port, LOGIN, "id").await.unwrap().success());
    assert!(!client.sftp(world.port, LOGIN, "ls\n").await.unwrap().success());
    let shell = client.ssh_with_input(world.port, LOGIN, "", b"echo shell-works; exit\n").await.unwrap();
    assert!(shell.text().contains("shell-works"), "{shell:?}");
    assert_eq!(world.refusals(), ["the command id", "subsystem sftp"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_not_the_pinned_one_gets_nothing() {
    let other = support::random_key().public_key().to_openssh().unwrap();
    let world = World::with(
        |mut lease| {
            lease.target.host_keys = vec![other];
            lease
        },
        |sshd| sshd,
        |_| {},
    )
    .await;
    let run = world.client().ssh(world.port, LOGIN, "echo reached").await.unwrap();
    assert_eq!(run.code, Some(255));
    assert!(run.stdout.is_empty() && run.stderr.contains("not pinned"), "{run:?}");
    assert!(!world.sshd.log().contains("Accepted"), "{}", world.sshd.log());
    world.records().await;
    assert!(matches!(world.last_session().reason(), Some(EndReason::TargetRefused { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_certificate_counts_only_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let authority = halligan_testkit::ssh_keys::SshKey::generate(folder.path(), "host_ca").unwrap();
    for (names, welcome) in [(&["orders-host"][..], true), (&["other-host"][..], false)] {
        let line = format!("@cert-authority {}", authority.public().unwrap());
        let world = World::with(
            |mut lease| {
                lease.target.host_keys = vec![line];
                lease
            },
            |sshd| sshd.host_certificate(&authority, names),
            |_| {},
        )
        .await;
        let run = world.client().ssh(world.port, LOGIN, "echo reached").await.unwrap();
        assert_eq!(run.success(), welcome, "{names:?} {run:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_ends_both_sockets_within_a_tenth_of_a_second() {
    let world = World::new().await;
    let machine = world.client();
    let mut shell = machine.ssh_live(world.port, LOGIN, &["-tt"], "").unwrap();
    shell.send(b"echo rea''dy\n").await.unwrap();
    shell.wait_for("ready", Duration::from_secs(10)).await.unwrap();
    // Beside it a client that floods and never reads what comes back.
    let client = world.client();
    let mut flood = client.ssh_live(world.port, LOGIN, &[], "yes").unwrap();
    let flooding = world.control.sessions.lock().unwrap().len();
    let until = Instant::now() + Duration::from_secs(10);
    while flood.output().len() < 1_000_000 {
        assert!(Instant::now() < until, "{flooding} {}", flood.complaints());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sessions = world.control.sessions.lock().unwrap().clone();
    let started = Instant::now();
    for session in &sessions {
        session.stop(EndReason::Killed { why: "a drill".into() });
    }
    let shell = shell.ended().await.unwrap();
    let took = started.elapsed();
    println!("kill to the client's end: {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert!(shell.stderr.contains("This session was ended by somebody else: a drill."), "{}", shell.stderr);
    flood.close_input();
    assert!(!flood.ended().await.unwrap().success());
    // At the target the logins are over as well.
    let until = Instant::now() + Duration::from_secs(5);
    while world.sshd.log().matches("Connection closed by").count()
        + world.sshd.log().matches("Connection reset").count()
        < 2
    {
        assert!(Instant::now() < until, "{}", world.sshd.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_passes_once_it_cannot_be_recorded() {
    let world = World::new().await;
    let machine = world.client();
    let mut shell = machine.ssh_live(world.port, LOGIN, &["-tt"], "").unwrap();
    shell.send(b"echo rea''dy\n").await.unwrap();
    shell.wait_for("ready", Duration::from_secs(10)).await.unwrap();
    world.last_session().lose_recording();
    let before = shell.output().len();
    shell.send(b"echo secret-output\n").await.ok();
    let run = shell.ended().await.unwrap();
    assert!(!run.success() && !run.text()[before..].contains("secret-output"), "{}", run.text());
    assert!(run.stderr.contains("can no longer be recorded"), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_may_not_open_is_explained_to_them_and_to_nobody_else() {
    let world = World::new().await;
    let client = world.client();
    let other = client.ssh(world.port, "app+other-host", "id").await.unwrap();
    assert_eq!(other.code, Some(255));
    assert!(other.stderr.contains("Halligan: you have no active grant"), "{}", other.stderr);
    let unnamed = client.ssh(world.port, "root", "id").await.unwrap();
    assert!(unnamed.stderr.contains("must be a role and a system"), "{}", unnamed.stderr);
    *world.control.lease.lock().unwrap() = None;
    let after = client.sftp(world.port, LOGIN, "ls\n").await.unwrap();
    assert!(after.stderr.contains("no active grant"), "{}", after.stderr);
    assert!(world.sshd.log().lines().all(|line| !line.contains("Accepted")), "nothing was dialled");

    let stranger = halligan_testkit::ssh_keys::SshKey::generate(world.folder.path(), "stranger").unwrap();
    let refused = halligan_testkit::ssh_client::SshClient::new()
        .unwrap()
        .trust_host(world.port, &world.host_key)
        .unwrap()
        .identity(&stranger)
        .option("PreferredAuthentications", "publickey")
        .ssh(world.port, LOGIN, "id")
        .await
        .unwrap();
    assert_eq!(refused.code, Some(255));
    assert!(refused.stderr.contains("Permission denied") && !refused.stderr.contains("secret reason"));
    assert!(world.control.logins.lock().unwrap().iter().all(|login| login == "key"));
    let tried = world.control.logins.lock().unwrap().len();
    assert_eq!(tried, 3, "an unknown key is no login attempt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_time_password_opens_once_and_tries_are_few() {
    let world = World::new().await;
    *world.control.password.lock().unwrap() = Some("k7f3-m9qx-2v".into());
    let person = |answers: &[&str]| {
        halligan_testkit::ssh_client::SshClient::new()
            .unwrap()
            .option("NumberOfPasswordPrompts", "6")
            .trust_host(world.port, &world.host_key)
            .unwrap()
            .answers(answers)
            .unwrap()
    };
    let client = person(&["k7f3-m9qx-2v"]);
    let first = client.ssh(world.port, LOGIN, "echo in").await.unwrap();
    assert_eq!(first.text(), "in\n", "{}", first.stderr);
    assert!(client.prompts().contains("One-time password: "), "{}", client.prompts());
    assert!(!person(&["k7f3-m9qx-2v"]).ssh(world.port, LOGIN, "echo in").await.unwrap().success());

    *world.control.password.lock().unwrap() = Some("right".into());
    let before = world.control.logins.lock().unwrap().len();
    let guesser = person(&["a", "b", "c", "right", "right"]);
    assert!(!guesser.ssh(world.port, LOGIN, "echo in").await.unwrap().success());
    assert_eq!(world.control.logins.lock().unwrap().len() - before, 3, "three tries on one connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_certificate_opens_unless_it_restricts_what_we_cannot_keep() {
    use halligan_testkit::ssh_keys::{Certificate, SshKey};
    let world = World::new().await;
    let authority = SshKey::generate(world.folder.path(), "login_ca").unwrap();
    let text = world.control.login_ca.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
    std::fs::write(authority.path(), text.as_bytes()).unwrap();
    std::fs::write(authority.public_path(), world.control.login_ca.public_key().to_openssh().unwrap())
        .unwrap();
    let key = SshKey::generate(world.folder.path(), "fresh").unwrap();
    let other_ca = SshKey::generate(world.folder.path(), "other_ca").unwrap();
    let cases: [(&SshKey, &[&str], &[&str], bool); 6] = [
        (&authority, &["halligan-login"], &[], true),
        (&authority, &["halligan-login"], &["source-address=127.0.0.0/8"], true),
        (&authority, &["halligan-login"], &["source-address=10.0.0.0/8"], false),
        (&authority, &["halligan-login"], &["force-command=true"], false),
        (&authority, &["somebody"], &[], false),
        (&other_ca, &["halligan-login"], &[], false),
    ];
    for (serial, (ca, principals, options, welcome)) in cases.into_iter().enumerate() {
        let serial = serial as u64 + 1;
        let path = ca
            .certify(
                &key,
                &Certificate { identity: "rita", principals, serial, options, ..Certificate::default() },
            )
            .unwrap();
        let client = halligan_testkit::ssh_client::SshClient::new()
            .unwrap()
            .trust_host(world.port, &world.host_key)
            .unwrap()
            .identity(&key)
            .certificate(&path);
        let run = client.ssh(world.port, LOGIN, "echo in").await.unwrap();
        assert_eq!(run.success(), welcome, "{principals:?} {options:?} {run:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_few_and_do_not_stall_anybody() {
    let world = World::with(
        |lease| lease,
        |sshd| sshd,
        |config| {
            config.most_waiting_per_network = 4;
            config.login_grace = Duration::from_secs(2);
        },
    )
    .await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.unwrap());
    }
    let started = Instant::now();
    world.client().ssh(world.port, LOGIN, "true").await.unwrap().ok().unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "three silent clients held up a fourth");
    for _ in 0..2 {
        idle.push(tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.unwrap());
    }
    // The first made room for the fifth; the others go when their time is up.
    let started = Instant::now();
    for mut stream in idle.into_iter().rev() {
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all).await.ok();
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    world.client().ssh(world.port, LOGIN, "true").await.unwrap().ok().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_the_gateway_drains_and_then_ends_sessions() {
    let world = World::new().await;
    let machine = world.client();
    let mut shell = machine.ssh_live(world.port, LOGIN, &["-tt"], "").unwrap();
    shell.send(b"echo rea''dy\n").await.unwrap();
    shell.wait_for("ready", Duration::from_secs(10)).await.unwrap();
    world.shutdown.cancel();
    let run = shell.ended().await.unwrap();
    assert!(run.stderr.contains("the gateway is being stopped"), "{}", run.stderr);
    tokio::time::timeout(Duration::from_secs(5), world.serving).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", world.port)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_shows_its_host_certificate() {
    use halligan_testkit::ssh_keys::{Certificate, SshKey};
    let keys = tempfile::tempdir().unwrap();
    let authority = SshKey::generate(keys.path(), "host_ca").unwrap();
    let host = SshKey::generate(keys.path(), "host").unwrap();
    let wanted =
        Certificate { identity: "gw-1", principals: &["127.0.0.1"], host: true, ..Certificate::default() };
    let certificate = authority.certify(&host, &wanted).unwrap();
    let world = World::with(
        |lease| lease,
        |sshd| sshd,
        |config| {
            config.host_key_file = host.path().to_owned();
            config.host_certificate_file = Some(certificate);
        },
    )
    .await;
    let client = halligan_testkit::ssh_client::SshClient::new()
        .unwrap()
        .trust_host_ca(&authority.public().unwrap())
        .unwrap()
        .identity(&world.responder);
    assert_eq!(client.ssh(world.port, LOGIN, "echo in").await.unwrap().ok().unwrap().text(), "in\n");
}
