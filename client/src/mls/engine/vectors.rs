//! The working group's passive clients (MLS.md §3, T26): members who only listen, with what they must come to after each commit.
//!
//! The vectors lie outside the project (`shared/vectors/mls` beside its root); without them there is nothing to test. Their members have
//! basic credentials, which [`roster`](ringgate_mls::roster) would let nobody join with. So this goes through all of the engine but its
//! judgement: its cryptography and storage, its parsers, and the profile that it joins with.

use std::path::{Path, PathBuf};

use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    HpkePrivateKey, KeyPackage, KeyPackageBundle, MlsGroup, OpenMlsProvider as _, ProcessedMessageContent,
    RatchetTreeIn, StagedWelcome,
};
use openmls::schedule::PreSharedKeyId;
use openmls_traits::storage::StorageProvider as _;
use ringgate_mls::profile::{self, Mode};
use ringgate_mls::{message, suite};
use serde_json::{Value, json};

use super::{MESSAGE_BYTES_MAX, Provider};

fn vectors(name: &str) -> Option<Value> {
    let candidates = [
        std::env::var_os("RINGGATE_VECTORS").map(PathBuf::from),
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/mls")),
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/mls")),
    ];
    let text = candidates
        .into_iter()
        .flatten()
        .find_map(|folder| std::fs::read_to_string(folder.join(name)).ok());
    match text {
        Some(text) => Some(serde_json::from_str(&text).expect("JSON")),
        None => {
            eprintln!("no vectors here: {name} is not tested");
            None
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex");
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Runs the cases of a file whose suite is one of ours; how many cases and commits that were.
fn run(file: &str) -> Option<(usize, usize)> {
    let all = vectors(file)?;
    let (mut cases, mut commits) = (0, 0);
    for case in list(&all) {
        let number = case["cipher_suite"]
            .as_u64()
            .and_then(|number| u16::try_from(number).ok());
        if suite::allowed(number.expect("a suite")).is_ok() {
            listen(case);
            cases += 1;
            commits += list(&case["epochs"]).len();
        }
    }
    Some((cases, commits))
}

/// One passive client, from its Welcome to its last epoch.
fn listen(case: &Value) {
    let provider = Provider::default();
    keep_package(&provider, case);
    for known in list(&case["external_psks"]) {
        let id = PreSharedKeyId::external(bytes(&known["psk_id"]), Vec::new());
        id.store(&provider, &bytes(&known["psk"])).expect("kept");
    }
    let handshakes = list(&case["epochs"])
        .iter()
        .flat_map(|epoch| list(&epoch["proposals"]).iter().chain([&epoch["commit"]]));
    let sealed = handshakes
        .map(bytes)
        .any(|handshake| handshake[..4] == [0, 1, 0, 2]);
    let mode = if sealed { Mode::Sealed } else { Mode::Assisted };
    let welcome = message::welcome(&bytes(&case["welcome"])).expect("a Welcome");
    let mut joining = StagedWelcome::build_from_welcome(&provider, &profile::join(mode, 0), welcome)
        .expect("for this client")
        .skip_lifetime_validation();
    if !case["ratchet_tree"].is_null() {
        let tree = RatchetTreeIn::tls_deserialize_exact(bytes(&case["ratchet_tree"])).expect("a tree");
        joining = joining.with_ratchet_tree(tree);
    }
    let mut group = joining
        .build()
        .expect("good")
        .into_group(&provider)
        .expect("joined");
    let authenticator = bytes(&case["initial_epoch_authenticator"]);
    assert_eq!(group.epoch_authenticator().as_slice(), authenticator);
    for epoch in list(&case["epochs"]) {
        for proposal in list(&epoch["proposals"]) {
            hear(&mut group, &provider, &bytes(proposal));
        }
        hear(&mut group, &provider, &bytes(&epoch["commit"]));
        let authenticator = bytes(&epoch["epoch_authenticator"]);
        assert_eq!(group.epoch_authenticator().as_slice(), authenticator);
    }
}

fn hear(group: &mut MlsGroup, provider: &Provider, handshake: &[u8]) {
    let message = message::protocol(handshake, MESSAGE_BYTES_MAX).expect("a message");
    let processed = group.process_message(provider, message).expect("processed");
    match processed.into_content() {
        ProcessedMessageContent::ProposalMessage(queued) => group
            .store_pending_proposal(provider.storage(), *queued)
            .expect("kept"),
        ProcessedMessageContent::StagedCommitMessage(staged) => {
            group.merge_staged_commit(provider, *staged).expect("merged");
        }
        other => panic!("{other:?}"),
    }
}

/// Puts the client's key package where the engine would have put it. The library has no constructor for one whose private keys come
/// from elsewhere; but it reads them from its storage, as they are written there.
fn keep_package(provider: &Provider, case: &Value) {
    // Not validated: that of the first file was good until March 2024.
    let package = message::key_package(&bytes(&case["key_package"])).expect("a KeyPackage");
    let package = serde_json::to_value(package).expect("JSON");
    let read: KeyPackage = serde_json::from_value(package.clone()).expect("a KeyPackage");
    let reference = read.hash_ref(provider.crypto()).expect("hashed");
    let bundle = json!({
        "key_package": package,
        "private_init_key": HpkePrivateKey::from(bytes(&case["init_priv"])),
        "private_encryption_key": {"key": HpkePrivateKey::from(bytes(&case["encryption_priv"]))},
    });
    let bundle: KeyPackageBundle = serde_json::from_value(bundle).expect("a bundle");
    provider
        .storage()
        .write_key_package(&reference, &bundle)
        .expect("kept");
}

#[test]
fn t26_passive_clients_join_by_a_welcome() {
    if let Some(counts) = run("passive-client-welcome.json") {
        assert_eq!(counts, (16, 0));
    }
}

#[test]
fn t26_passive_clients_follow_commits() {
    if let Some(counts) = run("passive-client-handling-commit.json") {
        assert_eq!(counts, (26, 52));
    }
}
