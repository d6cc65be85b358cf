//! Keystores on disk (MLS.md T24, T25).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::world::{ALICE, TTL, World};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringgate_identity::keystore::{KeystoreError, Seal, Stored, load, save};

fn stored() -> Stored {
    let world = World::new();
    let (key, issued) = world.enroll(ALICE);
    Stored {
        key,
        chain: issued.chain,
        bundle: world.issuer.bundle(3, TTL),
    }
}

fn passphrase(text: &str) -> Seal {
    Seal::Passphrase(text.to_owned().into())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("agent.keystore");
    let stored = stored();
    for seal in [
        passphrase("correct horse"),
        Seal::KeyFile(folder.path().join("agent.key")),
    ] {
        save(&path, &stored, &seal).expect("saved");
        assert_eq!(mode(&path), 0o600);
        let loaded = load(&path, &seal).expect("loaded");
        assert_eq!(loaded.key.public(), stored.key.public());
        assert_eq!(loaded.chain, stored.chain);
        assert_eq!(loaded.bundle, stored.bundle);
    }
    assert_eq!(mode(&folder.path().join("agent.key")), 0o600);
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .expect("folder")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["agent.key", "agent.keystore"], "nothing is left beside");
}

#[test]
fn t25_the_file_does_not_hold_the_key() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("agent.keystore");
    let stored = stored();
    save(&path, &stored, &Seal::KeyFile(folder.path().join("agent.key"))).expect("saved");
    let file = fs::read(&path).expect("read");
    let text = String::from_utf8(file.clone()).expect("text");
    let seed = stored.key.seed().expect("seed");
    let ciphertext: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let sealed = STANDARD
        .decode(ciphertext["ciphertext"].as_str().expect("text"))
        .expect("base64");
    for bytes in [&file, &sealed] {
        assert!(!bytes.windows(32).any(|window| window == &seed[..]));
        assert!(!bytes.windows(9).any(|window| window == b"key_pkcs8"));
    }
    assert!(!text.contains(&STANDARD.encode(&seed[..])));
    assert!(
        !text.contains(&STANDARD.encode(&stored.chain[0])[..32]),
        "not even who it is"
    );
}

#[test]
fn the_wrong_seal_opens_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("agent.keystore");
    let key_file = Seal::KeyFile(folder.path().join("agent.key"));
    save(&path, &stored(), &passphrase("correct horse")).expect("saved");
    for seal in [passphrase("battery staple"), key_file.clone()] {
        assert!(matches!(load(&path, &seal), Err(KeystoreError::Sealed { .. })));
    }
    assert!(matches!(
        load(&path, &passphrase("")),
        Err(KeystoreError::EmptyPassphrase)
    ));
    assert!(matches!(
        save(&path, &stored(), &passphrase("")),
        Err(KeystoreError::EmptyPassphrase)
    ));
    assert!(
        load(&path, &passphrase("correct horse")).is_ok(),
        "a failed write changes nothing"
    );

    save(&path, &stored(), &key_file).expect("saved");
    assert!(matches!(
        load(&path, &passphrase("correct horse")),
        Err(KeystoreError::Sealed { .. })
    ));
    fs::write(folder.path().join("agent.key"), [1; 32]).expect("written");
    assert!(matches!(
        load(&path, &key_file),
        Err(KeystoreError::Sealed { .. })
    ));
    fs::write(folder.path().join("agent.key"), [1; 31]).expect("written");
    assert!(matches!(
        load(&path, &key_file),
        Err(KeystoreError::KeyFile { .. })
    ));
    fs::write(folder.path().join("agent.key"), [1; 33]).expect("written");
    assert!(matches!(
        load(&path, &key_file),
        Err(KeystoreError::KeyFile { .. })
    ));
}

#[test]
fn t24_files_that_others_can_read_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("agent.keystore");
    let key_path = folder.path().join("agent.key");
    let seal = Seal::KeyFile(key_path.clone());
    save(&path, &stored(), &seal).expect("saved");
    for open in [&path, &key_path] {
        for bits in [0o640, 0o604, 0o660, 0o777] {
            fs::set_permissions(open, fs::Permissions::from_mode(bits)).expect("changed");
            let error = load(&path, &seal).expect_err("to be refused");
            assert!(
                matches!(&error, KeystoreError::Permissions { path, mode } if path == open && *mode == bits)
            );
        }
        fs::set_permissions(open, fs::Permissions::from_mode(0o600)).expect("changed");
    }
    assert!(load(&path, &seal).is_ok());
}

#[test]
fn a_changed_file_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("agent.keystore");
    let seal = Seal::KeyFile(folder.path().join("agent.key"));
    save(&path, &stored(), &seal).expect("saved");
    let good = fs::read_to_string(&path).expect("read");
    let refused = |text: &str| {
        fs::write(&path, text).expect("written");
        load(&path, &seal).expect_err("to be refused")
    };
    for text in [
        "",
        "{}",
        "null",
        &good[..good.len() / 2],
        &good.replace("keystore-1", "keystore-2"),
    ] {
        assert!(matches!(refused(text), KeystoreError::Malformed { .. }), "{text}");
    }
    let mut value: serde_json::Value = serde_json::from_str(&good).expect("JSON");
    for field in ["salt", "ciphertext"] {
        let old = value[field].clone();
        let mut bytes = STANDARD.decode(old.as_str().expect("text")).expect("base64");
        bytes[3] ^= 1;
        value[field] = STANDARD.encode(bytes).into();
        assert!(
            matches!(refused(&value.to_string()), KeystoreError::Sealed { .. }),
            "{field}"
        );
        value[field] = old;
    }
    value["derivation"] = serde_json::json!({"argon2id": {"memory_kib": u32::MAX, "passes": 1, "lanes": 1}});
    fs::write(&path, value.to_string()).expect("written");
    assert!(
        matches!(
            load(&path, &passphrase("x")),
            Err(KeystoreError::Malformed { .. })
        ),
        "a file cannot ask for all the memory there is"
    );
    fs::write(&path, vec![b' '; (4 << 20) + 2]).expect("written");
    assert!(matches!(load(&path, &seal), Err(KeystoreError::Malformed { .. })));
    assert!(matches!(
        load(&folder.path().join("none"), &seal),
        Err(KeystoreError::Io { .. })
    ));
}
