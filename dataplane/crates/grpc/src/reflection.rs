//! gRPC server reflection, `grpc.reflection.v1` and `v1alpha`
//! (<https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>): a function from request message to response message,
//! both without the prefix of [`frame`](crate::frame). The two versions are the same on the wire, so one function serves both.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use ringgate_proto::grpc::reflection::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::status::{Code, Status};

/// Full name of the service's settled version.
pub const SERVICE_V1: &str = "grpc.reflection.v1.ServerReflection";

/// Full name of the version before it, which some tools ask for first.
pub const SERVICE_V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// Why descriptors cannot be served. Found at start, not by a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReflectionError {
    /// The descriptor set is damaged.
    #[error("descriptor set cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// A service is served that no file of the set defines.
    #[error("service {0} is not in the descriptor set; add its .proto file to the ringgate-proto build")]
    UnknownService(String),
    /// A file imports one that the set lacks.
    #[error("file {0} is imported and not in the descriptor set; compile the set with its imports")]
    MissingImport(String),
}

/// What a server tells about its services. Built once; answers do not change it.
#[derive(Debug)]
pub struct Reflection {
    services: Vec<String>,
    files: BTreeMap<String, File>,
    /// Full name of everything that has one, to the name of its file.
    symbols: BTreeMap<String, Symbol>,
}

#[derive(Debug)]
struct File {
    descriptor: Bytes,
    imports: Vec<String>,
}

#[derive(Debug)]
struct Symbol {
    file: String,
    is_message: bool,
}

/// `google.protobuf.FileDescriptorSet` with the files left encoded, so that they are served as they were compiled.
#[derive(prost::Message)]
struct EncodedFiles {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

impl Reflection {
    /// Reflection of `services`, full names, out of an encoded `FileDescriptorSet` with imports. Only the files that these
    /// services need are told of: a set may hold more than a server serves.
    ///
    /// # Errors
    /// If the set is damaged, or lacks a service or an import.
    pub fn new(descriptor_set: &[u8], services: &[&str]) -> Result<Self, ReflectionError> {
        let set = EncodedFiles::decode(descriptor_set)?;
        let mut all = BTreeMap::new();
        for encoded in set.file {
            let file = FileDescriptorProto::decode(encoded.clone())?;
            all.insert(file.name().to_owned(), (file, encoded));
        }

        let mut reflection = Self {
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            files: BTreeMap::new(),
            symbols: BTreeMap::new(),
        };
        for service in services {
            let defines = |file: &FileDescriptorProto| {
                file.service
                    .iter()
                    .any(|defined| qualify(file.package(), defined.name()) == *service)
            };
            let (file, _) = all
                .values()
                .find(|(file, _)| defines(file))
                .ok_or_else(|| ReflectionError::UnknownService((*service).to_owned()))?;
            let mut wanted = vec![file.name().to_owned()];
            while let Some(name) = wanted.pop() {
                if reflection.files.contains_key(&name) {
                    continue;
                }
                let (file, encoded) = all.get(&name).ok_or(ReflectionError::MissingImport(name))?;
                wanted.extend(file.dependency.iter().cloned());
                reflection.add(file, encoded.clone());
            }
        }
        Ok(reflection)
    }

    /// `ServerReflectionInfo`: the answer to one message of the stream.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the message cannot be decoded. A question that has no answer is told so in the response, and
    /// the stream goes on.
    pub fn answer(&self, request: &[u8]) -> Result<Bytes, Status> {
        let request = ServerReflectionRequest::decode(request).map_err(|error| {
            Status::new(
                Code::InvalidArgument,
                format!("request cannot be decoded: {error}"),
            )
        })?;
        let answer = self.look_up(request.message_request.as_ref());
        let response = ServerReflectionResponse {
            valid_host: request.host.clone(),
            message_response: Some(answer.unwrap_or_else(error_response)),
            original_request: Some(request),
        };
        Ok(response.encode_to_vec().into())
    }

    fn look_up(&self, question: Option<&MessageRequest>) -> Result<MessageResponse, Status> {
        match question {
            Some(MessageRequest::ListServices(_)) => {
                let service = self
                    .services
                    .iter()
                    .map(|name| ServiceResponse { name: name.clone() })
                    .collect();
                Ok(MessageResponse::ListServicesResponse(ListServiceResponse {
                    service,
                }))
            }
            Some(MessageRequest::FileByFilename(name)) => self.with_imports(name),
            Some(MessageRequest::FileContainingSymbol(name)) => self.with_imports(&self.symbol(name)?.file),
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => {
                if !self.symbol(name)?.is_message {
                    return Err(not_found("message type", name));
                }
                // proto3 files extend no messages of each other.
                let none = ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number: Vec::new(),
                };
                Ok(MessageResponse::AllExtensionNumbersResponse(none))
            }
            Some(MessageRequest::FileContainingExtension(extension)) => {
                let name = format!("{} of {}", extension.extension_number, extension.containing_type);
                Err(not_found("extension", &name))
            }
            None => Err(Status::new(
                Code::InvalidArgument,
                "request asks for nothing; set one of message_request",
            )),
        }
    }

    /// Names may come with the leading dot that descriptors use.
    fn symbol(&self, name: &str) -> Result<&Symbol, Status> {
        self.symbols
            .get(name.strip_prefix('.').unwrap_or(name))
            .ok_or_else(|| not_found("symbol", name))
    }

    /// A file, and behind it all that it imports, so that one answer is enough to use it.
    fn with_imports(&self, name: &str) -> Result<MessageResponse, Status> {
        let mut response = FileDescriptorResponse::default();
        let mut seen = BTreeSet::from([name]);
        let mut wanted = vec![name];
        while let Some(name) = wanted.pop() {
            let file = self.files.get(name).ok_or_else(|| not_found("file", name))?;
            response.file_descriptor_proto.push(file.descriptor.clone());
            wanted.extend(
                file.imports
                    .iter()
                    .map(String::as_str)
                    .filter(|import| seen.insert(import)),
            );
        }
        Ok(MessageResponse::FileDescriptorResponse(response))
    }

    fn add(&mut self, file: &FileDescriptorProto, descriptor: Bytes) {
        let mut index = Index {
            symbols: &mut self.symbols,
            file: file.name(),
        };
        let package = file.package();
        file.message_type
            .iter()
            .for_each(|message| index.message(package, message));
        file.enum_type
            .iter()
            .for_each(|defined| index.enumeration(package, defined));
        index.fields(package, &file.extension);
        for service in &file.service {
            let name = qualify(package, service.name());
            service
                .method
                .iter()
                .for_each(|method| index.name(qualify(&name, method.name())));
            index.name(name);
        }
        let imports = file.dependency.clone();
        self.files
            .insert(file.name().to_owned(), File { descriptor, imports });
    }
}

/// Writes down the names of one file.
struct Index<'a> {
    symbols: &'a mut BTreeMap<String, Symbol>,
    file: &'a str,
}

impl Index<'_> {
    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = qualify(scope, message.name());
        self.fields(&name, &message.field);
        self.fields(&name, &message.extension);
        message
            .oneof_decl
            .iter()
            .for_each(|oneof| self.name(qualify(&name, oneof.name())));
        message
            .enum_type
            .iter()
            .for_each(|defined| self.enumeration(&name, defined));
        message
            .nested_type
            .iter()
            .for_each(|nested| self.message(&name, nested));
        self.symbols.insert(
            name,
            Symbol {
                file: self.file.to_owned(),
                is_message: true,
            },
        );
    }

    /// The values of an enum are named in the scope around it, not in its own.
    fn enumeration(&mut self, scope: &str, defined: &EnumDescriptorProto) {
        defined
            .value
            .iter()
            .for_each(|value| self.name(qualify(scope, value.name())));
        self.name(qualify(scope, defined.name()));
    }

    fn fields(&mut self, scope: &str, fields: &[FieldDescriptorProto]) {
        fields
            .iter()
            .for_each(|field| self.name(qualify(scope, field.name())));
    }

    fn name(&mut self, name: String) {
        self.symbols.insert(
            name,
            Symbol {
                file: self.file.to_owned(),
                is_message: false,
            },
        );
    }
}

fn qualify(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}

fn not_found(what: &str, name: &str) -> Status {
    Status::new(Code::NotFound, format!("unknown {what} {name}"))
}

fn error_response(status: Status) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        // At most 16.
        error_code: status.code().number() as i32,
        error_message: status.message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use ringgate_proto::{FILE_DESCRIPTOR_SET, grpc::reflection::v1::ExtensionRequest};

    use super::*;

    const AGENTS: &str = "agp.v1.AgentGateway";

    fn reflection(services: &[&str]) -> Reflection {
        Reflection::new(FILE_DESCRIPTOR_SET, services).expect("own descriptors")
    }

    fn ask(reflection: &Reflection, question: MessageRequest) -> MessageResponse {
        let request = ServerReflectionRequest {
            host: "h".to_owned(),
            message_request: Some(question),
        };
        let answer = reflection.answer(&request.encode_to_vec()).expect("well formed");
        let answer = ServerReflectionResponse::decode(answer).expect("own encoding");
        assert_eq!(
            (answer.valid_host.as_str(), answer.original_request),
            ("h", Some(request))
        );
        answer.message_response.expect("each question has an answer")
    }

    fn files(answer: MessageResponse) -> Vec<String> {
        let MessageResponse::FileDescriptorResponse(files) = answer else {
            panic!("no files: {answer:?}")
        };
        let decoded = files
            .file_descriptor_proto
            .into_iter()
            .map(FileDescriptorProto::decode);
        decoded
            .map(|file| file.expect("a descriptor").name().to_owned())
            .collect()
    }

    fn error(answer: MessageResponse) -> Code {
        let MessageResponse::ErrorResponse(error) = answer else {
            panic!("no error: {answer:?}")
        };
        Code::from_number(error.error_code as u32)
    }

    #[test]
    fn only_served_services_are_listed() {
        let reflection = reflection(&[AGENTS, SERVICE_V1]);
        let MessageResponse::ListServicesResponse(list) =
            ask(&reflection, MessageRequest::ListServices(String::new()))
        else {
            panic!("not a list");
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, [AGENTS, SERVICE_V1]);
        let other = MessageRequest::FileContainingSymbol("grpc.testing.TestService".to_owned());
        assert_eq!(error(ask(&reflection, other)), Code::NotFound);
    }

    #[test]
    fn every_kind_of_symbol_is_found() {
        let reflection = reflection(&[AGENTS]);
        for symbol in [
            "agp.v1.AgentGateway",
            "agp.v1.AgentGateway.Open",
            "agp.v1.Publish",
            ".agp.v1.Publish",
            "agp.v1.Publish.payload",
            "agp.v1.Publish.HeadersEntry",
            "agp.v1.Target.to",
            "agp.v1.Code",
            "agp.v1.CODE_NO_RESPONDER",
        ] {
            let answer = ask(
                &reflection,
                MessageRequest::FileContainingSymbol(symbol.to_owned()),
            );
            assert_eq!(files(answer), ["agp/v1/gateway.proto"], "{symbol}");
        }
        for symbol in ["", ".", "agp.v1", "agp.v1.publish", "Publish"] {
            let answer = ask(
                &reflection,
                MessageRequest::FileContainingSymbol(symbol.to_owned()),
            );
            assert_eq!(error(answer), Code::NotFound, "{symbol}");
        }
    }

    #[test]
    fn a_file_brings_its_imports() {
        let reflection = reflection(&["grpc.testing.TestService"]);
        let answer = ask(
            &reflection,
            MessageRequest::FileByFilename("grpc/testing/test.proto".to_owned()),
        );
        let mut names = files(answer);
        assert_eq!(names[0], "grpc/testing/test.proto");
        names.sort();
        assert_eq!(
            names,
            [
                "grpc/testing/empty.proto",
                "grpc/testing/messages.proto",
                "grpc/testing/test.proto"
            ]
        );
        let unknown = MessageRequest::FileByFilename("grpc/testing".to_owned());
        assert_eq!(error(ask(&reflection, unknown)), Code::NotFound);
    }

    #[test]
    fn there_are_no_extensions() {
        let reflection = reflection(&[AGENTS]);
        let containing_type = "agp.v1.Publish".to_owned();
        let numbers = ask(
            &reflection,
            MessageRequest::AllExtensionNumbersOfType(containing_type.clone()),
        );
        assert!(
            matches!(numbers, MessageResponse::AllExtensionNumbersResponse(none) if none.extension_number.is_empty())
        );
        let no_message = MessageRequest::AllExtensionNumbersOfType("agp.v1.Code".to_owned());
        assert_eq!(error(ask(&reflection, no_message)), Code::NotFound);
        let extension = ExtensionRequest {
            containing_type,
            extension_number: 100,
        };
        let extension = MessageRequest::FileContainingExtension(extension);
        assert_eq!(error(ask(&reflection, extension)), Code::NotFound);
    }

    #[test]
    fn v1alpha_is_the_same_on_the_wire() {
        use ringgate_proto::grpc::reflection::v1alpha as alpha;
        let request = alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(alpha::server_reflection_request::MessageRequest::ListServices(
                "*".to_owned(),
            )),
        };
        let answer = reflection(&[SERVICE_V1ALPHA])
            .answer(&request.encode_to_vec())
            .unwrap();
        let answer = alpha::ServerReflectionResponse::decode(answer).unwrap();
        assert_eq!(answer.original_request, Some(request));
        assert!(matches!(
            answer.message_response,
            Some(alpha::server_reflection_response::MessageResponse::ListServicesResponse(_))
        ));
    }

    #[test]
    fn an_empty_question_is_an_error_in_band() {
        let answer = reflection(&[AGENTS]).answer(b"").unwrap();
        let answer = ServerReflectionResponse::decode(answer).unwrap();
        assert_eq!(error(answer.message_response.unwrap()), Code::InvalidArgument);
        assert_eq!(
            reflection(&[AGENTS]).answer(b"\x1a").unwrap_err().code(),
            Code::InvalidArgument
        );
    }

    #[test]
    fn what_cannot_be_served_is_found_at_start() {
        let unknown = Reflection::new(FILE_DESCRIPTOR_SET, &["agp.v1.Nobody"]);
        assert!(matches!(unknown, Err(ReflectionError::UnknownService(name)) if name == "agp.v1.Nobody"));
        assert!(matches!(
            Reflection::new(b"\x0a", &[]),
            Err(ReflectionError::Undecodable(_))
        ));
    }
}
