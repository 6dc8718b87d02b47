use super::*;
use halligan_session::Secret;
use halligan_session::scram::{ScramKeys, ScramSalt, client_key_of_password, verify};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

const PASSWORD: &str = "pencil";

fn salt() -> ScramSalt {
    ScramSalt {
        salt: STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap(),
        iterations: 4096,
    }
}

fn initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    [mechanism.as_bytes(), b"\0", &(data.len() as u32).to_be_bytes(), data].concat()
}

fn password(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[test]
fn the_example_of_rfc_7677() {
    let first = initial(SCRAM_SHA_256, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let (challenge, started) =
        ServerFirst::read(&first, None).unwrap().challenge(&salt(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    assert_eq!(
        challenge,
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let (auth_message, proof) = started.proof(last).unwrap();
    let signature =
        verify(&ScramKeys::from_password(&password(PASSWORD), &salt()), &auth_message, &proof).unwrap();
    assert_eq!(ServerStarted::last(&signature), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/// The client library of others logs in at our end, bound and unbound; with a wrong password it does not.
#[test]
fn another_client_logs_in_at_our_end() {
    let certificate = vec![7_u8; 32];
    for (mechanism, theirs, ours) in [
        (SCRAM_SHA_256, ChannelBinding::unsupported(), None),
        (SCRAM_SHA_256, ChannelBinding::unrequested(), None),
        (
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(certificate.clone()),
            Some(certificate.as_slice()),
        ),
    ] {
        let mut client = ScramSha256::new(PASSWORD.as_bytes(), theirs);
        let first = ServerFirst::read(&initial(mechanism, client.message()), ours).unwrap();
        let (challenge, started) = first.challenge(&salt(), &nonce(&[3; 18]));
        client.update(&challenge).unwrap();
        let (auth_message, proof) = started.proof(client.message()).unwrap();
        let keys = ScramKeys::from_password(&password(PASSWORD), &salt());
        let signature = verify(&keys, &auth_message, &proof).unwrap();
        client.finish(&ServerStarted::last(&signature)).unwrap();
        let wrong = ScramKeys::from_password(&password("pen"), &salt());
        assert_eq!(verify(&wrong, &auth_message, &proof), None);
    }
}

#[test]
fn both_our_ends_agree_and_an_interceptor_is_noticed() {
    let salt = salt();
    let client_key = client_key_of_password(&password(PASSWORD), &salt);
    let keys = ScramKeys::from_password(&password(PASSWORD), &salt);
    let ours = ClientKeys { client_key: client_key.expose(), server_key: &keys.server_key };
    let both: &[&[u8]] = &[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"];
    let plain: &[&[u8]] = &[b"SCRAM-SHA-256"];
    let run =
        |offered: &[&[u8]], at_client: Option<&[u8]>, at_server: Option<&[u8]>| -> Result<(), ScramError> {
            let first = ClientFirst::new(offered, at_client, false, &nonce(&[1; 18]))?;
            let server = ServerFirst::read(&initial(first.mechanism, &first.message), at_server)?;
            let (challenge, started) = server.challenge(&salt, &nonce(&[2; 18]));
            let sent = first.prove(&challenge, ours)?;
            let (auth_message, proof) = started.proof(&sent.message)?;
            let signature = verify(&keys, &auth_message, &proof).unwrap();
            sent.check(b"e=other-error").unwrap_err();
            assert_eq!(sent.check(&ServerStarted::last(&[0; 32])), Err(ScramError::Server));
            sent.check(&ServerStarted::last(&signature))
        };
    run(both, Some(b"hash"), Some(b"hash")).unwrap();
    run(plain, Some(b"hash"), None).unwrap();
    run(plain, None, None).unwrap();
    assert_eq!(run(both, Some(b"hash"), Some(b"other")), Err(ScramError::Binding));
    // Somebody cut the offer of channel binding out.
    assert_eq!(run(plain, Some(b"hash"), Some(b"hash")), Err(ScramError::Downgrade));
    assert!(ClientFirst::new(plain, Some(b"hash"), true, "n").is_err(), "it must be bound");
    assert!(ClientFirst::new(&[b"MD5"], None, false, "n").is_err());
    let first = ClientFirst::new(plain, None, false, "abc").unwrap();
    for bad in
        [&b"r=abc,s=AA==,i=1"[..], b"r=xyzabc,s=AA==,i=1", b"r=abcd,s=AA==,i=0", b"r=abcd,s=%,i=1", b""]
    {
        assert!(first.clone().prove(bad, ours).is_err(), "{bad:?}");
    }
}

#[test]
fn a_first_message_that_claims_more_than_it_may_is_refused() {
    for (mechanism, data) in [
        (SCRAM_SHA_256, "p=tls-server-end-point,,n=,r=a"),
        (SCRAM_SHA_256_PLUS, "n,,n=,r=a"),
        (SCRAM_SHA_256, "n,a=root,n=,r=a"),
        (SCRAM_SHA_256, "n,,m=x,n=,r=a"),
        (SCRAM_SHA_256, "n,,n=,r="),
        ("SCRAM-SHA-1", "n,,n=,r=a"),
    ] {
        assert!(
            ServerFirst::read(&initial(mechanism, data.as_bytes()), Some(b"hash")).is_err(),
            "{mechanism} {data}"
        );
    }
    assert!(
        ServerFirst::read(&initial(SCRAM_SHA_256_PLUS, b"p=tls-server-end-point,,n=,r=a"), None).is_err()
    );
    assert!(ServerFirst::read(b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=a", None).is_err());
}

proptest! {
    #[test]
    fn no_bytes_harm(body in prop::collection::vec(any::<u8>(), 0..200), text in "[nycprsi=,a-z+/0-9]{0,80}") {
        for data in [&body[..], text.as_bytes()] {
            let _ = ServerFirst::read(data, Some(b"x"));
            let _ = ServerFirst::read(&initial(SCRAM_SHA_256, data), None);
            let first = ServerFirst::read(&initial(SCRAM_SHA_256, b"n,,n=,r=a"), None).unwrap();
            let _ = first.challenge(&salt(), "b").1.proof(data);
            let keys = ClientKeys { client_key: &[1; 32], server_key: &[2; 32] };
            let first = ClientFirst::new(&[b"SCRAM-SHA-256"], None, false, "a").unwrap();
            let _ = first.prove(data, keys);
        }
    }
}
