//! A query's answer, if the name is ours. Pure: bytes in, bytes out.

use crate::names::Names;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::net::Ipv4Addr;

/// Seconds: routes come and go, and the answer costs next to nothing.
const TTL: u32 = 5;
/// What fits through every network without fragments.
const MAX_UDP: u16 = 1232;

#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Answer(Vec<u8>),
    /// Not our name: ask the machine's resolvers.
    Forward,
    /// No query at all.
    Drop,
}

pub(crate) fn answer(query: &[u8], names: &Names, router_ip: Ipv4Addr) -> Verdict {
    let Ok(request) = Message::from_vec(query) else {
        return match query {
            // A query, but not understood.
            [a, b, flags, ..] if flags & 0x80 == 0 && query.len() >= 12 => {
                reply(&Message::error_msg(
                    u16::from_be_bytes([*a, *b]),
                    OpCode::Query,
                    ResponseCode::FormErr,
                ))
            }
            _ => Verdict::Drop,
        };
    };
    if request.metadata.message_type != MessageType::Query {
        return Verdict::Drop;
    }
    if request.metadata.op_code != OpCode::Query {
        return reply(&respond(&request, ResponseCode::NotImp));
    }
    let [question] = request.queries.as_slice() else {
        return reply(&respond(&request, ResponseCode::FormErr));
    };
    if question.query_class() != DNSClass::IN || !names.owns(&question.name().to_ascii()) {
        return Verdict::Forward;
    }
    // Also without an address of the kind asked for the name exists: "no such name" would end the search for others.
    let mut response = respond(&request, ResponseCode::NoError);
    response.metadata.authoritative = true;
    if matches!(question.query_type(), RecordType::A | RecordType::ANY) {
        response.add_answer(Record::from_rdata(
            question.name().clone(),
            TTL,
            RData::A(A(router_ip)),
        ));
    }
    reply(&response)
}

/// Tells the client that it cannot be found out now. `None`: the query was none.
pub(crate) fn server_failure(query: &[u8]) -> Option<Vec<u8>> {
    let request = Message::from_vec(query).ok()?;
    respond(&request, ResponseCode::ServFail).to_vec().ok()
}

fn respond(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.response_code = code;
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        response.set_edns(edns);
    }
    response
}

fn reply(response: &Message) -> Verdict {
    response.to_vec().map_or(Verdict::Drop, Verdict::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;
    use std::time::Duration;

    fn ask(name: &str, kind: RecordType) -> Verdict {
        let mut query = Message::new(77, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let names = Names::new(&["cupola.test".into()], Duration::from_secs(1));
        answer(&query.to_vec().unwrap(), &names, Ipv4Addr::new(10, 0, 0, 1))
    }

    fn answered(verdict: Verdict) -> Message {
        let Verdict::Answer(bytes) = verdict else {
            panic!("{verdict:?}")
        };
        Message::from_vec(&bytes).unwrap()
    }

    #[test]
    fn our_names_have_the_routers_address_and_no_other() {
        let a = answered(ask("API.cupola.test.", RecordType::A));
        assert_eq!(
            (a.metadata.id, a.metadata.response_code),
            (77, ResponseCode::NoError)
        );
        assert_eq!(a.answers[0].data, RData::A(A(Ipv4Addr::new(10, 0, 0, 1))));
        assert_eq!(
            a.answers[0].name.to_ascii(),
            "API.cupola.test.",
            "in the question's own spelling"
        );
        let aaaa = answered(ask("api.cupola.test.", RecordType::AAAA));
        assert_eq!(
            (aaaa.metadata.response_code, aaaa.answers.len()),
            (ResponseCode::NoError, 0)
        );
        assert_eq!(ask("example.com.", RecordType::A), Verdict::Forward);
    }

    #[test]
    fn nonsense_is_dropped_or_told_so() {
        let names = Names::new(&[], Duration::from_secs(1));
        let answer = |bytes: &[u8]| super::answer(bytes, &names, Ipv4Addr::LOCALHOST);
        assert_eq!(answer(b""), Verdict::Drop);
        assert_eq!(answer(&[0; 5]), Verdict::Drop);
        let no_question = Message::new(1, MessageType::Query, OpCode::Query)
            .to_vec()
            .unwrap();
        assert_eq!(
            answered(answer(&no_question)).metadata.response_code,
            ResponseCode::FormErr
        );
        let response = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert_eq!(answer(&response), Verdict::Drop, "answers are not answered");
    }
}
