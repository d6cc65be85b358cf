//! Messages between cores, and from a core to itself.

use crate::core_message::Body;
use crate::gateway::Gateway;
use crate::ids::{Address, CoreId, Now};
use crate::ops::publish::SentRun;
use crate::outgoing::Encoder;
use crate::session::Inbound;
use crate::table::Remote;

impl Gateway {
    pub(crate) fn take_message<E: Encoder>(&mut self, from: CoreId, body: Body, now: &Now, enc: &mut E) {
        match body {
            Body::Run {
                topic,
                bytes,
                messages,
                hold,
            } => {
                self.receive_run(
                    from,
                    SentRun {
                        topic,
                        bytes,
                        messages,
                        hold,
                    },
                    now,
                    enc,
                );
            }
            Body::GroupRun(run) => self.receive_group_run(from, *run, now, enc),
            Body::Lost { topic, messages } => self.lost_here(&topic, messages),
            Body::Released { hold } => self.hold_done(hold, false, enc),
            Body::Forward {
                to,
                number,
                requester,
                id,
                frame,
            } => {
                self.forwarded(to, number, Inbound { requester, id }, frame);
            }
            Body::Deliver { number, frame } => self.delivered(number, frame, enc),
            Body::RequestFailed { number, refusal } => self.request_failed(number, &refusal, enc),
            Body::CancelRequest { to, number } => self.request_cancelled(to, number, enc),
            Body::StreamOpen(opened) => self.stream_opened(*opened),
            Body::StreamRefused {
                to,
                number,
                peer_number,
                refusal,
            } => {
                self.stream_refused(to, number, peer_number, &refusal, enc);
            }
            Body::Chunk { to, number, frame } => self.chunk_arrived(to, number, frame),
            Body::StreamClose { to, number, frame } => self.stream_closed(to, number, frame),
            Body::StreamCredit { to, number, bytes } => self.credit_granted(to, number, bytes, enc),
            Body::StreamEnded {
                to,
                number,
                code,
                message,
            } => self.stream_ended(to, number, code, &message, enc),
            Body::StreamEndedHere { to, number } => self.stream_ended_here(to, number, enc),
            Body::Introduce(introduced) => self.introduced(*introduced),
            Body::Accepted { number, frame } => self.accepted(number, frame),
            Body::ChannelOpen { to, number } => self.channel_opened(to, number, enc),
            Body::Rejected { number, frame } => self.rejected(number, frame),
            Body::IntroductionFailed { number, refusal } => self.introduction_failed(number, &refusal, enc),
            Body::CancelIntroduction { to, number } => self.introduction_cancelled(to, number, enc),
            Body::ChannelClosed { to, number } => self.channel_closed(to, number),
            Body::StateAsk(ask) => self.state_asked(*ask, now, enc),
            Body::StateAnswer(answer) => self.state_answered(*answer, enc),
            Body::StateFetch(fetch) => self.state_fetched(*fetch, now, enc),
            Body::StateFed(fed) => self.state_fed(*fed, enc),
            Body::StateChanges { space, changes } => self.state_changes_told(&space, &changes, enc),
            Body::StateForget { space } => self.state_forgotten(from, &space),
            Body::KeptWanted(wanted) => self.kept_wanted(from, &wanted, now),
            Body::KeptTold { number, messages } => self.kept_told(from, number, messages, enc),
            body => self.take_news(from, body, now, enc),
        }
    }

    /// Interest, names and the directory.
    fn take_news<E: Encoder>(&mut self, from: CoreId, body: Body, now: &Now, enc: &mut E) {
        let sender = |session| Address { core: from, session };
        match body {
            Body::Interest {
                pattern,
                subscribers,
                blocking,
                barrier,
            } => {
                self.interest_told(
                    &pattern,
                    Remote {
                        core: from,
                        subscribers,
                        blocking,
                    },
                );
                self.answer(from, barrier);
            }
            Body::GroupInterest(interest) => {
                self.group_interest_told(from, &interest);
                self.answer(from, interest.barrier);
            }
            Body::GroupFull { pattern, group, full } => self.group_room_told(from, &pattern, &group, full),
            Body::Reached { barrier } => self.barrier_answered(barrier, now, enc),
            Body::Claim(claim) => self.claimed(*claim, now),
            Body::Granted { session, name, token } => self.granted(session, name, token, now, enc),
            Body::Refused { session, refusal } => self.claim_refused(session, *refusal, enc),
            Body::Yield { session, to } => self.give_up(session, to, now, enc),
            Body::NameReleased { name, session } => self.name_released(&name, sender(session)),
            Body::NameSettled { name, session } => self.name_settled(&name, sender(session)),
            Body::NameDetached { name, session } => self.name_detached(&name, sender(session)),
            Body::Handover(handover) => self.handed_over(*handover),
            Body::Moved(moved) => self.moved(from, *moved, now, enc),
            Body::Switched { session } => self.switched(session, from),
            Body::Tail(tail) => self.tail_arrived(*tail, now, enc),
            Body::AgentUp { card, barrier } => {
                self.directory.add(card);
                self.answer(from, Some(barrier));
            }
            Body::AgentDown { card } => {
                self.directory.remove(&card);
            }
            Body::AgentChanged { card } => self.directory.add(card),
            Body::AgentStatus { card, status } => self.directory.set_status(&card, status),
            other => unreachable!("dealt with in take_message: {other:?}"),
        }
    }

    fn answer(&mut self, to: CoreId, barrier: Option<u64>) {
        if let Some(barrier) = barrier {
            self.send(to, Body::Reached { barrier });
        }
    }
}
