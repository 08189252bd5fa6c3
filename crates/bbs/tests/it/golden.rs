//! Tests with bytes that were made by hand from the protocol's field tables, independently of `wire`.

use crate::fixture::Foundation;
use prost::Message as _;
use testkit::certs::shared_identity;
use wire::bbs as m;

/// Returns a length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(number < 16 && bytes.len() < 128);
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

#[test]
fn an_unclaimed_actual_lrp() {
    let key = [field(1, b"p"), vec![2 << 3, 3], field(3, b"d")].concat();
    let tag = [field(1, b"e"), vec![2 << 3, 7]].concat();
    let bytes = [
        field(1, &key),
        field(2, b""),
        field(3, b""),
        field(6, b"UNCLAIMED"),
        vec![8 << 3, 5],
        field(9, &tag),
        vec![13 << 3, 0],
    ]
    .concat();
    let row = m::ActualLrp {
        key: Some(m::ActualLrpKey {
            process_guid: "p".into(),
            index: 3,
            domain: "d".into(),
        }),
        instance_key: Some(m::ActualLrpInstanceKey::default()),
        net_info: Some(m::ActualLrpNetInfo::default()),
        state: "UNCLAIMED".into(),
        since: 5,
        modification_tag: Some(m::ModificationTag {
            epoch: "e".into(),
            index: 7,
        }),
        routable: Some(false),
        ..m::ActualLrp::default()
    };
    assert_eq!(row.encode_to_vec(), bytes);
    assert_eq!(m::ActualLrp::decode(bytes.as_slice()).unwrap(), row);
}

#[test]
fn ports_of_a_desired_lrp_are_written_unpacked_and_read_in_both_forms() {
    let tag_number_14 = |wire_type: u8| vec![14 << 3 | wire_type];
    let unpacked = [
        field(1, b"p"),
        tag_number_14(0),
        vec![0x90, 0x3f],
        tag_number_14(0),
        vec![0xae, 0x11],
    ]
    .concat();
    let packed = [
        field(1, b"p"),
        tag_number_14(2),
        vec![4, 0x90, 0x3f, 0xae, 0x11],
    ]
    .concat();
    let lrp = m::DesiredLrp {
        process_guid: "p".into(),
        ports: vec![8080, 2222],
        ..m::DesiredLrp::default()
    };
    assert_eq!(lrp.encode_to_vec(), unpacked);
    assert_eq!(m::DesiredLrp::decode(packed.as_slice()).unwrap(), lrp);
}

/// Tests the transport's rules as any client sees them.
#[tokio::test]
async fn a_failed_call_is_a_200_with_the_error_in_field_1() {
    let f = Foundation::start().await;
    let http = clients::http::client(&shared_identity(), None).unwrap();
    let url = f.bbs_url();
    let answer = http
        .post(format!("{url}/v1/desired_lrps/get_by_process_guid.r2"))
        .body(field(1, b"nobody"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.headers()["content-type"].to_str().unwrap()
        ),
        (200, "application/x-protobuf")
    );
    assert!(answer.headers().contains_key("content-length"));
    let error = [
        vec![1 << 3, 13],
        field(2, b"the requested resource could not be found"),
    ]
    .concat();
    assert_eq!(answer.bytes().await.unwrap(), field(1, &error));
    let ping = http.post(format!("{url}/v1/ping")).send().await.unwrap();
    assert_eq!(ping.bytes().await.unwrap(), vec![1 << 3, 1]);
    assert_eq!(
        http.post(format!("{url}/v1/desired_lrps/list.r4"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    assert!(
        reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .build()
            .unwrap()
            .post(format!("{url}/v1/ping"))
            .send()
            .await
            .is_err(),
        "no certificate, no answer"
    );

    let events = http
        .get(format!("{url}/v1/events.r1"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        events.headers()["content-type"],
        "text/event-stream; charset=utf-8"
    );
    f.finish().await;
}
