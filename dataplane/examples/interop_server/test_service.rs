//! What `grpc.testing.TestService` does, without I/O: messages in, framed messages and a status out. The client says in each
//! request what the server shall do; what each method owes it is told in
//! <https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md>.
//!
//! Left out: user names and OAuth scopes (there is no one to vouch for them), load reports, and `interval_us` (responses go out
//! at once).

use std::mem;

use bytes::{Bytes, BytesMut};
use ringgate_dataplane::shard::Handler;
use ringgate_grpc::{Code, Message, Request, Status, frame};
use ringgate_proto::grpc::testing::{
    BoolValue, EchoStatus, Empty, Payload, PayloadType, SimpleRequest, SimpleResponse,
    StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
    StreamingOutputCallResponse,
};

/// Full name of the service.
pub(crate) const SERVICE: &str = "grpc.testing.TestService";

/// Most payload bytes that one request can ask for. The tests ask for some hundred KiB.
const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// Most responses that one request, or one `HalfDuplexCall`, can ask for. The tests ask for four.
const RESPONSES_MAX: usize = 1024;

const ECHO_INITIAL: &[u8] = b"x-grpc-test-echo-initial";
const ECHO_TRAILING: &[u8] = b"x-grpc-test-echo-trailing-bin";

/// A header field as its name and value.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct TestService {
    server_id: String,
}

impl TestService {
    /// The service of a server that calls itself `server_id` where a client asks.
    pub(crate) fn new(server_id: impl Into<String>) -> Self {
        Self {
            server_id: server_id.into(),
        }
    }

    /// The call that a request starts.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for another service, or a method this one does not have; `UnimplementedCall` is declared so that
    /// clients can ask for one.
    pub(crate) fn call(&self, request: &Request) -> Result<TestCall, Status> {
        if request.service() != SERVICE {
            return Err(request.unimplemented());
        }
        let mut initial = Vec::new();
        let method = match request.method() {
            "EmptyCall" => Method::Empty,
            "UnaryCall" => Method::Unary,
            "CacheableUnaryCall" => {
                initial.push((b"cache-control".to_vec(), b"max-age=60, public".to_vec()));
                Method::Unary
            }
            "StreamingOutputCall" => Method::StreamingOutput,
            "StreamingInputCall" => Method::StreamingInput { payload_bytes: 0 },
            "FullDuplexCall" => Method::FullDuplex,
            "HalfDuplexCall" => Method::HalfDuplex { wanted: Vec::new() },
            _ => return Err(request.unimplemented()),
        };
        let echo = |name: &[u8]| {
            let values = request.headers().iter().filter(|header| header.name == name);
            values
                .map(|header| (name.to_vec(), header.value.to_vec()))
                .collect::<Vec<_>>()
        };
        initial.extend(echo(ECHO_INITIAL));
        Ok(TestCall {
            method,
            messages: 0,
            compresses: request.accepts_gzip,
            server_id: self.server_id.clone(),
            initial,
            trailing: echo(ECHO_TRAILING),
        })
    }
}

/// One call. Ends with the status that [`message`](Self::message) fails with, or else with that of
/// [`half_closed`](Self::half_closed).
#[derive(Debug)]
pub(crate) struct TestCall {
    method: Method,
    /// How many messages came.
    messages: u64,
    compresses: bool,
    server_id: String,
    initial: Vec<Field>,
    trailing: Vec<Field>,
}

#[derive(Debug)]
enum Method {
    Empty,
    Unary,
    StreamingOutput,
    StreamingInput {
        payload_bytes: usize,
    },
    FullDuplex,
    /// The responses to give once the client has said all.
    HalfDuplex {
        wanted: Vec<Wanted>,
    },
}

/// One response to give.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    payload_bytes: usize,
    compressed: bool,
}

impl Handler for TestCall {
    /// Metadata to send with the response headers. Empty when asked again.
    fn initial_metadata(&mut self) -> Vec<Field> {
        mem::take(&mut self.initial)
    }

    /// Metadata to send with the trailers, whatever the status. Empty when asked again.
    fn trailing_metadata(&mut self) -> Vec<Field> {
        mem::take(&mut self.trailing)
    }

    /// Whether the response headers have to announce gzip: responses are compressed where a request asks for it, and no
    /// request has come yet.
    fn compresses(&self) -> bool {
        self.compresses
    }

    /// A message of the client. Responses, framed, are appended to `out`.
    ///
    /// # Errors
    /// The status to end the call with: the one the client asked for, or `INVALID_ARGUMENT` for a request that cannot be
    /// decoded, asks for too much, or was not compressed as it says.
    fn message(&mut self, message: Message<'_>, out: &mut Vec<Bytes>) -> Result<(), Status> {
        self.messages += 1;
        if self.messages > 1 && self.method.takes_one() {
            return Err(Status::new(
                Code::Internal,
                "method takes one request, and more came",
            ));
        }
        match &mut self.method {
            Method::Empty => {
                decode::<Empty>(message)?;
                out.push(framed(&Empty {}, false));
            }
            Method::Unary => {
                let request: SimpleRequest = decode(message)?;
                out.push(self.simple_response(&request, message.compressed)?);
            }
            Method::StreamingInput { payload_bytes } => {
                let request: StreamingInputCallRequest = decode(message)?;
                check_compressed(request.expect_compressed, message.compressed)?;
                *payload_bytes += request.payload.map_or(0, |payload| payload.body.len());
            }
            Method::StreamingOutput | Method::FullDuplex => {
                let wanted = wanted_responses(&decode(message)?)?;
                out.extend(wanted.into_iter().map(|wanted| wanted.response(self.compresses)));
            }
            Method::HalfDuplex { wanted } => {
                wanted.extend(wanted_responses(&decode(message)?)?);
                check_amount(wanted)?;
            }
        }
        Ok(())
    }

    /// The client sends no more: what is left to say is appended to `out`, and the call ends.
    fn half_closed(&mut self, out: &mut Vec<Bytes>) -> Option<Status> {
        if self.messages == 0 && self.method.takes_one() {
            return Some(Status::new(
                Code::Internal,
                "method takes one request, and none came",
            ));
        }
        match &mut self.method {
            Method::StreamingInput { payload_bytes } => {
                let aggregated_payload_size = i32::try_from(*payload_bytes).unwrap_or(i32::MAX);
                out.push(framed(
                    &StreamingInputCallResponse {
                        aggregated_payload_size,
                    },
                    false,
                ));
            }
            Method::HalfDuplex { wanted } => {
                out.extend(
                    mem::take(wanted)
                        .into_iter()
                        .map(|wanted| wanted.response(self.compresses)),
                );
            }
            Method::Empty | Method::Unary | Method::StreamingOutput | Method::FullDuplex => {}
        }
        Some(Status::OK)
    }
}

impl TestCall {
    fn simple_response(&self, request: &SimpleRequest, compressed: bool) -> Result<Bytes, Status> {
        check_compressed(request.expect_compressed, compressed)?;
        echo_status(request.response_status.as_ref())?;
        let wanted = Wanted::new(request.response_size, request.response_compressed)?;
        check_amount(&[wanted])?;
        let response = SimpleResponse {
            payload: Some(wanted.payload()),
            server_id: if request.fill_server_id {
                self.server_id.clone()
            } else {
                String::new()
            },
            ..SimpleResponse::default()
        };
        Ok(framed(&response, wanted.compressed && self.compresses))
    }
}

impl Method {
    fn takes_one(&self) -> bool {
        matches!(self, Self::Empty | Self::Unary | Self::StreamingOutput)
    }
}

impl Wanted {
    fn new(size: i32, compressed: Option<BoolValue>) -> Result<Self, Status> {
        let payload_bytes = usize::try_from(size)
            .map_err(|_| Status::new(Code::InvalidArgument, format!("response size {size} is negative")))?;
        Ok(Self {
            payload_bytes,
            compressed: compressed.is_some_and(|wanted| wanted.value),
        })
    }

    fn payload(self) -> Payload {
        Payload {
            r#type: PayloadType::Compressable.into(),
            body: vec![0; self.payload_bytes].into(),
        }
    }

    fn response(self, compresses: bool) -> Bytes {
        let response = StreamingOutputCallResponse {
            payload: Some(self.payload()),
        };
        framed(&response, self.compressed && compresses)
    }
}

/// The responses that a request asks for, unless it asks for a failure.
fn wanted_responses(request: &StreamingOutputCallRequest) -> Result<Vec<Wanted>, Status> {
    echo_status(request.response_status.as_ref())?;
    let parameters = request.response_parameters.iter();
    let wanted = parameters
        .map(|wanted| Wanted::new(wanted.size, wanted.compressed))
        .collect::<Result<Vec<_>, _>>()?;
    check_amount(&wanted)?;
    Ok(wanted)
}

fn check_amount(wanted: &[Wanted]) -> Result<(), Status> {
    let payload_bytes = wanted
        .iter()
        .map(|wanted| wanted.payload_bytes)
        .fold(0, usize::saturating_add);
    if wanted.len() > RESPONSES_MAX || payload_bytes > RESPONSE_BYTES_MAX {
        let message = format!(
            "{} responses of {payload_bytes} bytes asked for; ask for at most {RESPONSES_MAX} of {RESPONSE_BYTES_MAX}",
            wanted.len()
        );
        return Err(Status::new(Code::InvalidArgument, message));
    }
    Ok(())
}

fn check_compressed(expected: Option<BoolValue>, compressed: bool) -> Result<(), Status> {
    match expected {
        Some(expected) if expected.value != compressed => {
            let is = |compressed| if compressed { "compressed" } else { "uncompressed" };
            let message = format!("request came {}, {} expected", is(compressed), is(expected.value));
            Err(Status::new(Code::InvalidArgument, message))
        }
        _ => Ok(()),
    }
}

/// Fails with the status a client asks for, if that is a failure.
fn echo_status(wanted: Option<&EchoStatus>) -> Result<(), Status> {
    match wanted {
        Some(wanted) if wanted.code != 0 => {
            let code = u32::try_from(wanted.code).map_or(Code::Unknown, Code::from_number);
            Err(Status::new(code, wanted.message.clone()))
        }
        _ => Ok(()),
    }
}

fn decode<M: prost::Message + Default>(message: Message<'_>) -> Result<M, Status> {
    M::decode(message.payload).map_err(|error| {
        Status::new(
            Code::InvalidArgument,
            format!("request cannot be decoded: {error}"),
        )
    })
}

fn framed(message: &impl prost::Message, compressed: bool) -> Bytes {
    let mut out = BytesMut::new();
    if compressed {
        frame::append_gzip(&mut out, &message.encode_to_vec());
    } else {
        frame::append_proto(&mut out, message);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ringgate_grpc::{Deframer, Encoding};
    use ringgate_http2::HeaderList;
    use ringgate_proto::grpc::testing::ResponseParameters;

    use super::*;

    /// A client of one call, and what it got.
    struct Client {
        call: TestCall,
        got: Vec<(Vec<u8>, bool)>,
    }

    fn request(method: &str, metadata: &[(&str, &str)]) -> Request {
        let path = format!("/{SERVICE}/{method}");
        let usual = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path.as_str()),
            ("content-type", "application/grpc"),
            ("grpc-accept-encoding", "identity,gzip"),
        ];
        let mut headers = HeaderList::new();
        for (name, value) in usual.iter().chain(metadata) {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        Request::parse(headers).expect("well formed")
    }

    impl Client {
        fn open(method: &str) -> Self {
            let call = TestService::new("server")
                .call(&request(method, &[]))
                .expect("implemented");
            Self {
                call,
                got: Vec::new(),
            }
        }

        fn say(&mut self, message: &impl prost::Message, compressed: bool) -> Result<usize, Status> {
            let mut out = Vec::new();
            let payload = message.encode_to_vec();
            let result = self.call.message(
                Message {
                    payload: &payload,
                    compressed,
                },
                &mut out,
            );
            self.take(out);
            result.map(|()| self.got.len())
        }

        fn end(&mut self) -> Status {
            let mut out = Vec::new();
            let status = self.call.half_closed(&mut out);
            self.take(out);
            status.expect("every call ends when the client has said all")
        }

        fn take(&mut self, out: Vec<Bytes>) {
            let out = out.concat();
            let mut deframer = Deframer::new(u32::MAX, Encoding::Gzip);
            let mut input = &out[..];
            while let Some(message) = deframer.next(&mut input).expect("well framed") {
                self.got.push((message.payload.to_vec(), message.compressed));
            }
        }

        fn payload_sizes(&self) -> Vec<usize> {
            let decoded = self
                .got
                .iter()
                .map(|(response, _)| StreamingOutputCallResponse::decode(&response[..]));
            decoded
                .map(|response| {
                    response
                        .expect("a response")
                        .payload
                        .expect("a payload")
                        .body
                        .len()
                })
                .collect()
        }
    }

    fn wanting(sizes: &[i32]) -> StreamingOutputCallRequest {
        let response_parameters = sizes
            .iter()
            .map(|size| ResponseParameters {
                size: *size,
                ..Default::default()
            })
            .collect();
        StreamingOutputCallRequest {
            response_parameters,
            ..Default::default()
        }
    }

    fn payload(bytes: usize) -> Option<Payload> {
        Some(Payload {
            body: vec![0; bytes].into(),
            ..Default::default()
        })
    }

    #[test]
    fn empty_unary() {
        let mut client = Client::open("EmptyCall");
        client.say(&Empty {}, false).unwrap();
        assert_eq!(
            (client.got.as_slice(), client.call.half_closed(&mut Vec::new())),
            (&[(vec![], false)][..], Some(Status::OK))
        );
    }

    #[test]
    fn large_unary() {
        for method in ["UnaryCall", "CacheableUnaryCall"] {
            let mut client = Client::open(method);
            let request = SimpleRequest {
                response_size: 314_159,
                payload: payload(271_828),
                ..Default::default()
            };
            client.say(&request, false).unwrap();
            assert_eq!(client.end(), Status::OK);
            assert_eq!(client.payload_sizes(), [314_159]);
            assert!(!client.got[0].1);
        }
    }

    #[test]
    fn client_compressed_unary() {
        let expecting = |value| SimpleRequest {
            expect_compressed: Some(BoolValue { value }),
            ..Default::default()
        };
        let probe = Client::open("UnaryCall").say(&expecting(true), false);
        assert_eq!(probe.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(Client::open("UnaryCall").say(&expecting(true), true), Ok(1));
        assert_eq!(Client::open("UnaryCall").say(&expecting(false), false), Ok(1));
    }

    #[test]
    fn server_compressed_unary() {
        for value in [true, false] {
            let mut client = Client::open("UnaryCall");
            let response_compressed = Some(BoolValue { value });
            let request = SimpleRequest {
                response_size: 314_159,
                response_compressed,
                ..Default::default()
            };
            client.say(&request, false).unwrap();
            assert!(client.call.compresses());
            assert_eq!((client.payload_sizes(), client.got[0].1), (vec![314_159], value));
        }
    }

    #[test]
    fn client_streaming() {
        let mut client = Client::open("StreamingInputCall");
        for size in [27_182, 8, 1828, 45_904] {
            client
                .say(
                    &StreamingInputCallRequest {
                        payload: payload(size),
                        expect_compressed: None,
                    },
                    false,
                )
                .unwrap();
        }
        assert_eq!(client.end(), Status::OK);
        let response = StreamingInputCallResponse::decode(&client.got[0].0[..]).unwrap();
        assert_eq!(response.aggregated_payload_size, 74_922);
    }

    #[test]
    fn server_streaming() {
        let mut client = Client::open("StreamingOutputCall");
        client.say(&wanting(&[31_415, 9, 2653, 58_979]), false).unwrap();
        assert_eq!(client.end(), Status::OK);
        assert_eq!(client.payload_sizes(), [31_415, 9, 2653, 58_979]);
    }

    #[test]
    fn ping_pong() {
        let mut client = Client::open("FullDuplexCall");
        for (said, size) in [31_415, 9, 2653, 58_979].into_iter().enumerate() {
            assert_eq!(client.say(&wanting(&[size]), false), Ok(said + 1));
        }
        assert_eq!(client.end(), Status::OK);
    }

    #[test]
    fn empty_stream() {
        let mut client = Client::open("FullDuplexCall");
        assert_eq!(client.end(), Status::OK);
        assert!(client.got.is_empty());
    }

    #[test]
    fn half_duplex_answers_at_the_end() {
        let mut client = Client::open("HalfDuplexCall");
        assert_eq!(client.say(&wanting(&[1, 2]), false), Ok(0));
        assert_eq!(client.say(&wanting(&[3]), false), Ok(0));
        assert_eq!(client.end(), Status::OK);
        assert_eq!(client.payload_sizes(), [1, 2, 3]);
    }

    #[test]
    fn status_code_and_message() {
        let response_status = Some(EchoStatus {
            code: 2,
            message: "test status message".to_owned(),
        });
        let expected = Err(Status::new(Code::Unknown, "test status message"));
        let unary = SimpleRequest {
            response_status: response_status.clone(),
            ..Default::default()
        };
        assert_eq!(Client::open("UnaryCall").say(&unary, false), expected);
        let streaming = StreamingOutputCallRequest {
            response_status,
            ..Default::default()
        };
        assert_eq!(Client::open("FullDuplexCall").say(&streaming, false), expected);
    }

    #[test]
    fn custom_metadata() {
        let metadata = [
            ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
            ("x-grpc-test-echo-trailing-bin", "q6ur"),
        ];
        let mut call = TestService::new("server")
            .call(&request("UnaryCall", &metadata))
            .unwrap();
        let field = |(name, value): (&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(call.initial_metadata(), [field(metadata[0])]);
        assert_eq!(call.trailing_metadata(), [field(metadata[1])]);
    }

    #[test]
    fn unimplemented_method() {
        let refused = TestService::new("server").call(&request("UnimplementedCall", &[]));
        assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    }

    #[test]
    fn one_request_means_one() {
        assert_eq!(Client::open("UnaryCall").end().code(), Code::Internal);
        let mut client = Client::open("EmptyCall");
        client.say(&Empty {}, false).unwrap();
        assert_eq!(client.say(&Empty {}, false).unwrap_err().code(), Code::Internal);
    }

    #[test]
    fn no_request_can_ask_for_too_much() {
        let too_much = [
            wanting(&[-1]),
            wanting(&[i32::MAX]),
            wanting(&[RESPONSE_BYTES_MAX as i32, 1]),
            wanting(&[0; RESPONSES_MAX + 1]),
        ];
        for request in too_much {
            let result = Client::open("StreamingOutputCall").say(&request, false);
            assert_eq!(result.unwrap_err().code(), Code::InvalidArgument);
        }
        let mut client = Client::open("HalfDuplexCall");
        client.say(&wanting(&[RESPONSE_BYTES_MAX as i32]), false).unwrap();
        assert_eq!(
            client.say(&wanting(&[1]), false).unwrap_err().code(),
            Code::InvalidArgument
        );
    }
}
