//! What a session settles: its purpose, by either way.

use super::city::City;
use super::client::Fetched;
use super::{ALL, code};
use crate::door::{
    GetSessionOptionsResult, OptionValue, SessionOptionValue, SetSessionOptionsRequest,
    SetSessionOptionsResult,
};
use arrow::array::AsArray;
use prost::Message;
use tonic::Code;

#[tokio::test]
async fn a_purpose_is_named_or_the_only_one() {
    let city = City::start().await;
    let both = city.client("ana", &["planning", "review"]);
    let refused = both.ask(ALL).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("`planning`, `review`"),
        "{}",
        refused.message()
    );
    assert_eq!(both.ask("SELECT 1").await.unwrap().rows(), 1);
    let named = both.clone().header("x-guildhall-purpose", "review");
    assert_eq!(named.ask(ALL).await.unwrap().rows(), 2);
    let foreign = both.header("x-guildhall-purpose", "gossip");
    assert_eq!(code(foreign.ask(ALL).await), Code::PermissionDenied);
}

#[tokio::test]
async fn set_names_the_purpose_for_the_session() {
    let city = City::start().await;
    let both = city.client("ana", &["planning", "review"]);
    let show = |f: Fetched| {
        f.batches[0]
            .column(1)
            .as_string::<i32>()
            .value(0)
            .to_owned()
    };
    assert_eq!(
        code(both.ask("SET guildhall.purpose = 'gossip'").await),
        Code::PermissionDenied
    );
    // Preparing alone changes nothing.
    both.prepare("SET guildhall.purpose = 'review'")
        .await
        .unwrap();
    assert_eq!(code(both.ask(ALL).await), Code::InvalidArgument);
    assert_eq!(
        show(both.ask("SET guildhall.purpose = 'review'").await.unwrap()),
        "review"
    );
    assert_eq!(
        show(both.ask("SHOW guildhall.purpose").await.unwrap()),
        "review"
    );
    assert_eq!(both.ask(ALL).await.unwrap().rows(), 2);
    assert_eq!(
        code(both.ask("SET guildhall.colour = 'red'").await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(both.ask("SET datafusion.execution.batch_size = 1").await),
        Code::InvalidArgument
    );
    both.act("CloseSession", vec![]).await.unwrap();
    assert_eq!(code(both.ask(ALL).await), Code::InvalidArgument);
}

#[tokio::test]
async fn session_options_are_the_same_settings() {
    let city = City::start().await;
    let both = city.client("ana", &["planning", "review"]);
    let value = |s: &str| SessionOptionValue {
        option_value: Some(OptionValue::String(s.into())),
    };
    let request = SetSessionOptionsRequest {
        session_options: [
            ("guildhall.purpose".to_owned(), value("planning")),
            ("catalog".into(), value("x")),
        ]
        .into(),
    };
    let result = both
        .act("SetSessionOptions", request.encode_to_vec())
        .await
        .unwrap();
    let result = SetSessionOptionsResult::decode(result[0].as_slice()).unwrap();
    assert_eq!(result.errors.keys().collect::<Vec<_>>(), ["catalog"]);
    let told = both.act("GetSessionOptions", vec![]).await.unwrap();
    let told = GetSessionOptionsResult::decode(told[0].as_slice()).unwrap();
    assert_eq!(told.session_options["guildhall.purpose"], value("planning"));
    assert_eq!(both.ask(ALL).await.unwrap().rows(), 2);
}
