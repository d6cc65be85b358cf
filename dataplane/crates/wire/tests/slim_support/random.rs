//! Publishes of every kind, from a seed.

use fastrand::Rng;

use super::proto::*;

fn text(rng: &mut Rng) -> String {
    let len = rng.usize(..20);
    (0..len).map(|_| rng.char('a'..='ž')).collect()
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    // Now and then one that is shared instead of copied.
    let len = if rng.u8(..8) == 0 {
        rng.usize(..20_000)
    } else {
        rng.usize(..60)
    };
    (0..len).map(|_| rng.u8(..)).collect()
}

fn number(rng: &mut Rng) -> u64 {
    rng.u64(..) >> rng.u32(..64)
}

fn option<T>(rng: &mut Rng, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    rng.bool().then(|| make(rng))
}

fn several<T>(rng: &mut Rng, make: impl Fn(&mut Rng) -> T) -> Vec<T> {
    (0..rng.usize(..4)).map(|_| make(rng)).collect()
}

fn encoded(rng: &mut Rng) -> Encoded {
    Encoded {
        component_0: number(rng),
        component_1: number(rng),
        component_2: number(rng),
        name_id: option(rng, |rng| NameId {
            id_0: number(rng),
            id_1: number(rng),
        }),
    }
}

fn name(rng: &mut Rng) -> Name {
    Name {
        name: Some(encoded(rng)),
        str_name: option(rng, |rng| Strings {
            str_component_0: text(rng),
            str_component_1: text(rng),
            str_component_2: text(rng),
        }),
    }
}

fn participant(rng: &mut Rng) -> Participant {
    Participant {
        name: option(rng, name),
        settings: option(rng, |rng| ParticipantSettings {
            sends_data: rng.bool(),
            receives_data: rng.bool(),
        }),
        status: rng.i32(..),
    }
}

fn mls(rng: &mut Rng) -> Mls {
    Mls {
        commit_id: rng.u32(..),
        mls_content: bytes(rng),
    }
}

fn order(rng: &mut Rng) -> Order {
    match rng.u8(..16) {
        0 => Order::DiscoveryRequest(()),
        1 => Order::DiscoveryReply(()),
        2 => Order::JoinRequest(JoinRequest {
            timer_settings: option(rng, |rng| TimerSettings {
                timeout: rng.u32(..),
                max_retries: rng.u32(..),
            }),
            channel: option(rng, name),
            control: option(rng, name),
            mls_settings: option(rng, |rng| MlsSettings {
                header_integrity_validation_percent: rng.u32(..),
            }),
        }),
        3 => Order::JoinReply(JoinReply {
            key_package: option(rng, bytes),
            participant: option(rng, participant),
        }),
        4 => Order::LeaveRequest(()),
        5 => Order::LeaveReply(()),
        6 => Order::GroupUpdate(GroupUpdate {
            op: rng.i32(..),
            participant: option(rng, participant),
            participants: several(rng, participant),
            mls: option(rng, mls),
        }),
        7 => Order::GroupWelcome(GroupWelcome {
            participants: several(rng, participant),
            mls: option(rng, mls),
        }),
        8 => Order::GroupClose(GroupClose {
            participants: several(rng, name),
        }),
        9 => Order::GroupProposal(GroupProposal {
            source: option(rng, name),
            mls_proposal: bytes(rng),
        }),
        10 => Order::GroupAck(()),
        11 => Order::GroupNack(()),
        12 => Order::Heartbeat(Heartbeat { epoch: number(rng) }),
        13 => Order::UpdateParticipantState(UpdateParticipantState {
            participant: option(rng, name),
            new_state: rng.i32(..),
            epoch: number(rng),
        }),
        14 => Order::RejoinRequest(RejoinRequest {
            participant: option(rng, name),
            key_package: bytes(rng),
        }),
        _ => Order::RejoinReply(RejoinReply {
            commit_id: rng.u32(..),
            mls_content: bytes(rng),
        }),
    }
}

fn content(rng: &mut Rng) -> Content {
    let payload = match rng.bool() {
        true => Payload::App(Application {
            payload_type: text(rng),
            blob: bytes(rng),
        }),
        false => Payload::Command(Command {
            order: option(rng, order),
        }),
    };
    Content {
        payload: Some(payload),
    }
}

fn header(rng: &mut Rng) -> Header {
    let mac_len = [0, 31, 32, 32, 32, 32, 33][rng.usize(..7)];
    Header {
        source: Some(name(rng)),
        destination: Some(name(rng)),
        identity: text(rng),
        fanout: rng.u32(..) >> rng.u32(..32),
        version: text(rng),
        ttl: if rng.u8(..4) == 0 { rng.u32(2..) } else { 8 },
        recv_from: option(rng, number).filter(|_| rng.u8(..4) == 0),
        forward_to: option(rng, number).filter(|_| rng.u8(..4) == 0),
        incoming_conn: option(rng, number),
        error: option(rng, |rng| rng.bool()),
        header_mac: (rng.u8(..4) > 0).then(|| vec![0xaa; mac_len]),
        e2e_header_sig: option(rng, bytes),
    }
}

/// A Publish that a node passes on.
pub(crate) fn publish(rng: &mut Rng) -> Message {
    Message {
        kind: Some(Kind::Publish(Publish {
            header: Some(header(rng)),
            session: Some(Session {
                session_type: rng.i32(..),
                session_message_type: rng.i32(..),
                session_id: rng.u32(..),
                message_id: rng.u32(..),
            }),
            msg: option(rng, content),
        })),
        metadata: several(rng, |rng| (text(rng), text(rng))).into_iter().collect(),
    }
}
