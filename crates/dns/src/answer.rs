//! Computes a query's answer, if the name is ours: bytes in, bytes out, without IO.

use crate::internal::Lookup;
use crate::names::Names;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rand::seq::SliceRandom as _;
use std::net::Ipv4Addr;

/// The time to live of routed names in seconds. It is short, because routes come and go and an answer costs next to nothing.
const TTL: u32 = 5;
/// The time to live of containers' names: clients must not cache their addresses, because containers come and go.
const CONTAINER_TTL: u32 = 0;
/// The size of an answer that passes every network without fragments.
const MAX_UDP: u16 = 1232;
/// The size that every client accepts without announcing a larger one.
const MIN_UDP: u16 = 512;
/// The size of a record whose name is a pointer to that of the question.
const RECORD: usize = 16;

/// The transport of a query. An answer by UDP has to be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Answer(Vec<u8>),
    /// The name is not ours: forward the query to the machine's resolvers.
    Forward,
    /// The message is not a query.
    Drop,
}

pub(crate) fn answer(query: &[u8], over: Over, names: &Names, router_ip: Ipv4Addr) -> Verdict {
    let Ok(request) = Message::from_vec(query) else {
        return match query {
            // It is a query that cannot be parsed.
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
    if question.query_class() != DNSClass::IN {
        return Verdict::Forward;
    }
    let name = question.name().to_ascii();
    if !names.is_configured(&name) {
        match names.internal.lookup(&name) {
            Lookup::Addresses(addresses) => {
                return reply(&containers(
                    &request,
                    question.name(),
                    question.query_type(),
                    addresses,
                    over,
                ));
            }
            Lookup::Missing => return reply(&authoritative(&request, ResponseCode::NXDomain)),
            Lookup::NotInternal => {}
        }
    }
    if !names.owns(&name) {
        return Verdict::Forward;
    }
    // The name exists even without an address of the requested kind: "no such name" would end the client's search for other
    // kinds.
    let mut response = authoritative(&request, ResponseCode::NoError);
    if matches!(question.query_type(), RecordType::A | RecordType::ANY) {
        response.add_answer(Record::from_rdata(
            question.name().clone(),
            TTL,
            RData::A(A(router_ip)),
        ));
    }
    reply(&response)
}

fn authoritative(request: &Message, code: ResponseCode) -> Message {
    let mut response = respond(request, code);
    response.metadata.authoritative = true;
    response
}

/// Returns the addresses in a random order. By UDP these are as many as fit, and the client is asked to repeat the query by TCP.
fn containers(
    request: &Message,
    name: &Name,
    kind: RecordType,
    mut addresses: Vec<Ipv4Addr>,
    over: Over,
) -> Message {
    let mut response = authoritative(request, ResponseCode::NoError);
    if !matches!(kind, RecordType::A | RecordType::ANY) {
        return response;
    }
    let limit = match (over, &request.edns) {
        (Over::Tcp, _) => u16::MAX,
        (Over::Udp, Some(edns)) => edns.max_payload().clamp(MIN_UDP, MAX_UDP),
        (Over::Udp, None) => MIN_UDP,
    };
    let head = response.to_vec().map_or(usize::MAX, |bytes| bytes.len());
    let fit = usize::from(limit).saturating_sub(head) / RECORD;
    addresses.shuffle(&mut rand::rng());
    response.metadata.truncation = addresses.len() > fit;
    addresses.truncate(fit);
    for address in addresses {
        response.add_answer(Record::from_rdata(
            name.clone(),
            CONTAINER_TTL,
            RData::A(A(address)),
        ));
    }
    response
}

/// Returns the answer that the name cannot be resolved now, or `None` if the message was not a query.
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
    use std::time::{Duration, Instant};

    fn query(name: &str, kind: RecordType) -> Verdict {
        let mut query = Message::new(77, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let names = Names::new(&["cupola.test".into()], &[], Duration::from_secs(1));
        answer(
            &query.to_vec().unwrap(),
            Over::Udp,
            &names,
            Ipv4Addr::new(10, 0, 0, 1),
        )
    }

    fn internal(count: u8) -> Names {
        let mut names = Names::new(
            &["cupola.test".into()],
            &["apps.internal".into()],
            Duration::from_secs(1),
        );
        for last in 0..count {
            let address = Ipv4Addr::new(10, 255, 0, last);
            names
                .internal
                .register("a.apps.internal", address, Instant::now());
            names
                .internal
                .register("api.cupola.test", address, Instant::now());
        }
        names
    }

    fn query_internal(names: &Names, name: &str, over: Over, payload: Option<u16>) -> Message {
        let mut query = Message::new(77, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            query.set_edns(edns);
        }
        answered(answer(
            &query.to_vec().unwrap(),
            over,
            names,
            Ipv4Addr::new(10, 0, 0, 1),
        ))
    }

    #[test]
    fn an_internal_name_has_all_addresses_in_any_order_and_no_time_to_live() {
        let names = internal(20);
        let orders: std::collections::HashSet<Vec<String>> = (0..20)
            .map(|_| {
                let answers = query_internal(&names, "a.apps.internal.", Over::Udp, None).answers;
                assert!(answers.len() == 20 && answers.iter().all(|record| record.ttl == 0));
                answers
                    .iter()
                    .map(|record| record.data.to_string())
                    .collect()
            })
            .collect();
        assert!(orders.len() > 1, "the order never changes");
        let missing = query_internal(&names, "b.apps.internal.", Over::Udp, None);
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        // A route cannot take a configured name.
        let api = query_internal(&names, "api.cupola.test.", Over::Udp, None);
        assert_eq!(api.answers[0].data, RData::A(A(Ipv4Addr::new(10, 0, 0, 1))));
    }

    #[test]
    fn more_addresses_than_fit_are_cut_by_udp_and_whole_by_tcp() {
        let names = internal(200);
        for (payload, limit) in [
            (None, 512),
            (Some(100), 512),
            (Some(1232), 1232),
            (Some(4096), 1232),
        ] {
            let response = query_internal(&names, "a.apps.internal.", Over::Udp, payload);
            let length = response.to_vec().unwrap().len();
            assert!(
                response.metadata.truncation && length <= limit && length > limit - 32,
                "{length} for {payload:?}"
            );
        }
        let response = query_internal(&names, "a.apps.internal.", Over::Tcp, None);
        assert!(!response.metadata.truncation && response.answers.len() == 200);
    }

    fn answered(verdict: Verdict) -> Message {
        let Verdict::Answer(bytes) = verdict else {
            panic!("{verdict:?}")
        };
        Message::from_vec(&bytes).unwrap()
    }

    #[test]
    fn our_names_have_the_routers_address_and_no_other() {
        let a = answered(query("API.cupola.test.", RecordType::A));
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
        let aaaa = answered(query("api.cupola.test.", RecordType::AAAA));
        assert_eq!(
            (aaaa.metadata.response_code, aaaa.answers.len()),
            (ResponseCode::NoError, 0)
        );
        assert_eq!(query("example.com.", RecordType::A), Verdict::Forward);
    }

    #[test]
    fn malformed_queries_are_dropped_or_refused() {
        let names = Names::new(&[], &[], Duration::from_secs(1));
        let answer = |bytes: &[u8]| super::answer(bytes, Over::Udp, &names, Ipv4Addr::LOCALHOST);
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
