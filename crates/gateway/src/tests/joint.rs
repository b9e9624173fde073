//! Cells with parts at several owners, over a clean room that notes what it is given.

use super::city::{COUNCILS, City};
use super::client::{Client, Fetched, statement};
use super::parties::{Parties, messages, product};
use crate::backend::{Backend, Messages, Party, PartyError};
use crate::config::Limits;
use crate::credential::tests as credentials;
use crate::granted::{Asker, Granted, Missing};
use crate::refusals::Refusals;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::memory::MemoryStream;
use futures::{StreamExt as _, stream};
use guildhall_grant::product::{Column, Dimension, Product};
use guildhall_grant::{envelope, output_to_wire};
use guildhall_model::{
    ColumnClass, CouncilName, FragmentDigest, MockClock, OutputClass, Purpose, ReleaseClass,
};
use guildhall_plan::catalogue::CleanRoom;
use guildhall_plan::remote::{Fragment, Mode};
use guildhall_proto::authority::v1::{
    CatalogueEntry, CatalogueRequest, CatalogueResponse, Credential, FragmentWanted,
    IssueGrantsRequest, ProductBudget,
};
use guildhall_proto::envelope::v1::Envelope;
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;
use tonic::{Code, Status};

const ROOM: &str = "spiffe://northmoor/council/clean-room/main";
const GATEWAY: &str = "spiffe://northmoor/council/gateway/door-1";
const BY_WARD: &str = "SELECT ward, count(*) AS n FROM city.parking.stays GROUP BY ward";
const BY_COUNCIL: &str =
    "SELECT council, ward, count(*) AS n FROM city.parking.stays GROUP BY council, ward";

/// What a clean room was given: of each part the council, and what its grant is for.
type Given = Vec<(String, FragmentWanted)>;

/// The authorities and nodes of two councils with private products, and a clean room.
#[derive(Debug)]
struct Town {
    parties: Arc<Parties>,
    distinct: AtomicBool,
    /// Calls for grants, each of one council.
    asked: Mutex<Vec<(CouncilName, Vec<FragmentWanted>)>>,
    /// What nodes ran for the gateway.
    ran: Mutex<Vec<FragmentDigest>>,
    released: Mutex<Vec<(Given, bool)>>,
    /// A release that does not end tells here when it is dropped.
    dropped: Mutex<Option<oneshot::Sender<()>>>,
}

fn cells(council: &str, status: bool) -> RecordBatch {
    let ward: ArrayRef = Arc::new(StringArray::from(vec![format!("{council} 1")]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![30]));
    let mut columns = vec![("ward", ward), ("n", n)];
    if status {
        columns.push(("s", Arc::new(StringArray::from(vec!["perturbed"]))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn streamed(batch: RecordBatch) -> SendableRecordBatchStream {
    let schema = batch.schema();
    Box::pin(MemoryStream::try_new(vec![batch], schema, None).unwrap())
}

fn stays(council: &str, joint: bool) -> Product {
    let others = COUNCILS.iter().filter(|other| **other != council && joint);
    let joint_with = others.map(|other| format!("{other}.parking.stays").parse().unwrap());
    let columns = [
        ("vehicle", ColumnClass::Identifier),
        ("ward", ColumnClass::Quasi),
    ];
    let rows = columns.map(|(name, _)| {
        let none: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
        (name, none)
    });
    let schema = RecordBatch::try_from_iter(rows).unwrap().schema();
    Product {
        name: "stays".parse().unwrap(),
        class: ReleaseClass::Aggregate,
        conforms_to: Some("stays".parse().unwrap()),
        unit: Some("vehicle".parse().unwrap()),
        minimum_group: 10,
        max_rows_per_unit: 100,
        columns: columns
            .map(|(name, class)| Column {
                name: name.parse().unwrap(),
                class,
                doc: String::new(),
                reads: BTreeSet::new(),
            })
            .into(),
        dimensions: vec![Dimension {
            column: "ward".parse().unwrap(),
            roll_ups: vec![],
            values: vec![],
            within: None,
        }],
        arrow_schema: crate::encode::schema_bytes(&schema).unwrap().to_vec(),
        row_count: None,
        joint_with: joint_with.collect(),
        ..product(council)
    }
}

impl Town {
    /// The grant for `wanted`, which says what it is for.
    fn grant(wanted: &FragmentWanted) -> Envelope {
        Envelope {
            payload: wanted.encode_to_vec(),
            ..Envelope::default()
        }
    }

    /// What a grant is for, which has to be this fragment, these cells and that recipient.
    fn checked(grant: &Envelope, fragment: &Fragment, to: &str) -> FragmentWanted {
        let wanted = FragmentWanted::decode(grant.payload.as_slice()).unwrap();
        assert_eq!(wanted.fragment_digest, fragment.digest.as_bytes());
        assert_eq!(wanted.node, fragment.node.to_string());
        assert_eq!(wanted.recipient, to);
        assert_eq!(
            wanted.output_class,
            i32::from(output_to_wire(fragment.output))
        );
        wanted
    }

    fn node(&self, fragment: &Fragment, grant: &Envelope) -> Result<RecordBatch, PartyError> {
        self.parties.here(Party::Node(fragment.node.clone()))?;
        assert_eq!(fragment.output, OutputClass::ReleasedCells);
        Self::checked(grant, fragment, GATEWAY);
        self.ran.lock().unwrap().push(fragment.digest);
        Ok(cells(fragment.node.council.as_str(), false))
    }

    fn asked(&self) -> Vec<(CouncilName, Vec<FragmentWanted>)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn released(&self) -> Vec<(Given, bool)> {
        std::mem::take(&mut *self.released.lock().unwrap())
    }
}

#[async_trait]
impl Backend for Town {
    async fn sign_in(
        &self,
        council: &CouncilName,
        account: &str,
        password: &str,
    ) -> Result<Envelope, PartyError> {
        self.parties.sign_in(council, account, password).await
    }

    async fn sign_in_with_certificate(
        &self,
        council: &CouncilName,
        chain: Vec<Vec<u8>>,
    ) -> Result<Envelope, PartyError> {
        self.parties.sign_in_with_certificate(council, chain).await
    }

    async fn catalogue(
        &self,
        council: &CouncilName,
        request: CatalogueRequest,
    ) -> Result<CatalogueResponse, PartyError> {
        let told = self.parties.catalogue(council, request).await?;
        let product = stays(council.as_str(), self.distinct.load(Ordering::SeqCst));
        let entry = CatalogueEntry {
            product: envelope::sign(&product, &self.parties.key).encode_to_vec(),
            address: "127.0.0.1:1".into(),
        };
        Ok(CatalogueResponse {
            products: vec![entry],
            ..told
        })
    }

    async fn budgets(
        &self,
        council: &CouncilName,
        credential: Credential,
        purpose: &Purpose,
    ) -> Result<Vec<ProductBudget>, PartyError> {
        self.parties.budgets(council, credential, purpose).await
    }

    async fn issue_grants(
        &self,
        council: &CouncilName,
        request: IssueGrantsRequest,
    ) -> Result<Vec<Envelope>, PartyError> {
        self.parties.here(Party::Authority(council.clone()))?;
        let grants = request.fragments.iter().map(Self::grant).collect();
        let asked = (council.clone(), request.fragments);
        self.asked.lock().unwrap().push(asked);
        Ok(grants)
    }

    async fn run(
        &self,
        fragment: &Fragment,
        grant: Envelope,
    ) -> Result<SendableRecordBatchStream, PartyError> {
        Ok(streamed(self.node(fragment, &grant)?))
    }

    async fn relay(&self, fragment: &Fragment, grant: Envelope) -> Result<Messages, PartyError> {
        Ok(messages(streamed(self.node(fragment, &grant)?)))
    }

    async fn release(
        &self,
        fragment: &Fragment,
        grants: Vec<Envelope>,
    ) -> Result<Messages, PartyError> {
        let party = Party::CleanRoom(fragment.node.council.clone());
        self.parties.here(party.clone())?;
        assert_eq!(fragment.node.to_string(), ROOM);
        assert_eq!(fragment.parts.len(), grants.len());
        let mut given = Vec::new();
        for (part, grant) in fragment.parts.iter().zip(&grants) {
            let node = Party::Node(part.node.clone());
            if self.parties.here(node.clone()).is_err() {
                return Err(PartyError::Refused {
                    party,
                    code: Code::Unavailable,
                    message: format!("{node} did not answer"),
                });
            }
            assert_eq!(part.output, OutputClass::PartialCells);
            let wanted = Self::checked(grant, part, ROOM);
            given.push((part.node.council.to_string(), wanted));
        }
        let status = fragment.cell_status;
        self.released.lock().unwrap().push((given, status));
        let answer = messages(streamed(cells("all", status)));
        match self.dropped.lock().unwrap().take() {
            None => Ok(answer),
            Some(dropped) => {
                let tell = Tell(Some(dropped));
                let endless = stream::pending().inspect(move |_| {
                    let _ = &tell;
                });
                Ok(answer.chain(endless).boxed())
            }
        }
    }
}

/// Tells when it is dropped.
struct Tell(Option<oneshot::Sender<()>>);

impl Drop for Tell {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            let _ = told.send(());
        }
    }
}

async fn start(room: Option<&str>) -> (City, Arc<Town>) {
    let (key, trust) = credentials::council();
    let clock = MockClock::at(credentials::now());
    let parties = Arc::new(Parties::new(key, clock.clone()));
    let town = Arc::new(Town {
        parties: parties.clone(),
        distinct: AtomicBool::new(true),
        asked: Mutex::default(),
        ran: Mutex::default(),
        released: Mutex::default(),
        dropped: Mutex::default(),
    });
    let room = room.map(|peer| CleanRoom {
        peer: peer.parse().unwrap(),
        address: "127.0.0.1:2".into(),
    });
    let limits = Limits::default();
    let city = City::over(parties, town.clone(), trust, clock, limits, room).await;
    (city, town)
}

fn room() -> Party {
    Party::CleanRoom("northmoor".parse().unwrap())
}

/// Asks outright, and as one who would do without departments that are away; both are refused alike.
async fn refused_anyhow(city: &City, sql: &str) -> Status {
    let partial = city.ana().header("x-guildhall-partial", "on");
    let easy = partial.ask(sql).await.unwrap_err();
    let strict = city.ana().ask(sql).await.unwrap_err();
    assert_eq!(strict.code(), easy.code(), "{strict:?} {easy:?}");
    easy
}

fn counts(fetched: &Fetched) -> Vec<i64> {
    let batches = fetched.batches.iter();
    batches
        .flat_map(|b| b.column(1).as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

#[tokio::test]
async fn each_authority_grants_its_part_to_the_clean_room_which_releases_the_whole() {
    let (city, town) = start(Some(ROOM)).await;
    // One goes from clean room to client as it is, the other through the gateway's own hands.
    for sql in [BY_WARD.to_owned(), format!("{BY_WARD} ORDER BY n + 1")] {
        let fetched = city.ana().ask(&sql).await.unwrap();
        assert_eq!(counts(&fetched), [30], "{sql}");
        let mut asked = town.asked();
        asked.sort_by(|a, b| a.0.cmp(&b.0));
        let councils: Vec<&str> = asked.iter().map(|(c, _)| c.as_str()).collect();
        assert_eq!(councils, COUNCILS);
        for (_, wanted) in &asked {
            let [part] = wanted.as_slice() else {
                panic!("{wanted:?}");
            };
            assert_eq!(part.recipient, ROOM);
            assert_eq!(
                part.output_class,
                i32::from(output_to_wire(OutputClass::PartialCells))
            );
        }
        let released = town.released();
        let [(given, false)] = released.as_slice() else {
            panic!("{released:?}");
        };
        let councils: Vec<&str> = given.iter().map(|(c, _)| c.as_str()).collect();
        assert_eq!(councils, COUNCILS);
    }
    assert!(town.ran.lock().unwrap().is_empty());
}

#[tokio::test]
async fn leave_for_whole_cells_is_not_taken_for_leave_for_parts_of_them() {
    let (city, town) = start(Some(ROOM)).await;
    // The same bytes twice: as a part for the clean room, and as northmoor's own cells for the gateway.
    let sql = "SELECT a.n, b.n AS m FROM (SELECT ward, count(*) AS n FROM city.parking.stays GROUP BY ward) a \
               CROSS JOIN (SELECT ward, count(*) AS n FROM northmoor.parking.stays GROUP BY ward) b";
    assert_eq!(counts(&city.ana().ask(sql).await.unwrap()), [30]);
    let released = town.released();
    let part = &released[0].0[0].1;
    let ran = town.ran.lock().unwrap();
    assert_eq!(
        ran.as_slice(),
        [FragmentDigest::from_bytes(&part.fragment_digest).unwrap()]
    );
}

fn asker() -> Asker {
    Asker {
        caller: credentials::caller("ana", &["planning"]),
        purpose: "planning".parse().ok(),
        query: "q-1".parse().unwrap(),
        recipient: GATEWAY.parse().unwrap(),
        partial: false,
        councils: vec![],
        refusals: Refusals::default(),
    }
}

#[tokio::test]
async fn the_order_in_which_parts_and_whole_cells_are_asked_for_mixes_no_grants() {
    let (_, town) = start(Some(ROOM)).await;
    let part = |council: &str| Fragment {
        node: product(council).node,
        address: "127.0.0.1:1".to_owned(),
        bytes: Bytes::from(council.to_owned()),
        digest: FragmentDigest::of(council.as_bytes()),
        products: vec![],
        output: OutputClass::PartialCells,
        mode: Mode::Joint,
        cell_status: false,
        recipient: Some(ROOM.parse().unwrap()),
        linked: None,
        parts: vec![],
    };
    let own = Fragment {
        output: OutputClass::ReleasedCells,
        mode: Mode::Local,
        recipient: None,
        ..part("northmoor")
    };
    let joint = Fragment {
        node: ROOM.parse().unwrap(),
        mode: Mode::Joint,
        parts: COUNCILS.map(part).into(),
        ..own.clone()
    };
    let asked = [joint.clone(), own.clone()];
    for order in [[&joint, &own], [&own, &joint]] {
        let granted = Granted::issue(town.clone(), asker(), &asked, Missing::default()).await;
        let granted = granted.unwrap();
        for fragment in order {
            assert!(granted.relay(fragment).await.is_ok());
        }
    }
    assert_eq!(town.released().len(), 2);
}

#[tokio::test]
async fn what_one_owner_can_answer_reaches_no_clean_room() {
    let (city, town) = start(Some(ROOM)).await;
    assert_eq!(city.ana().ask(BY_COUNCIL).await.unwrap().rows(), 2);
    assert!(town.released().is_empty());
    for (_, wanted) in town.asked() {
        assert!(wanted.iter().all(|w| w.recipient == GATEWAY), "{wanted:?}");
    }
}

#[tokio::test]
async fn companions_are_asked_of_the_clean_room() {
    let (city, town) = start(Some(ROOM)).await;
    let session = "arrow_flight_session_id=0123456789abcdef0123456789abcdef";
    let ana = city.ana().header("cookie", session);
    ana.ask("SET guildhall.cell_status = on").await.unwrap();
    let fetched = ana.ask(BY_WARD).await.unwrap();
    let names: Vec<&str> = fetched
        .schema
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect();
    assert_eq!(names, ["ward", "n", "n_status"]);
    assert!(town.released()[0].1);
}

#[tokio::test]
async fn a_clean_room_that_is_away_is_named_and_never_done_without() {
    let (city, town) = start(Some(ROOM)).await;
    town.parties.goes_away(room());
    let refused = refused_anyhow(&city, BY_WARD).await;
    assert_eq!(refused.code(), Code::Unavailable);
    let message = refused.message();
    assert!(
        message.contains("the clean room of `northmoor` did not answer"),
        "{message}"
    );
    // Who does not need it does not notice.
    assert_eq!(city.ana().ask(BY_COUNCIL).await.unwrap().rows(), 2);
}

#[tokio::test]
async fn a_department_without_whose_part_there_is_no_cell_is_named_in_the_clean_rooms_words() {
    let (city, town) = start(Some(ROOM)).await;
    town.parties.goes_away(City::node("southsea"));
    for sql in [BY_WARD.to_owned(), format!("{BY_WARD} ORDER BY n + 1")] {
        let refused = refused_anyhow(&city, &sql).await;
        assert_eq!(refused.code(), Code::Unavailable);
        let message = refused.message();
        assert!(
            message.contains("department `parking` of `southsea` did not answer"),
            "{message}"
        );
    }
    assert!(town.released().is_empty());
    let partial = city.ana().header("x-guildhall-partial", "on");
    let rest = partial.ask(BY_COUNCIL).await.unwrap();
    assert_eq!(
        (rest.rows(), rest.missing.as_deref()),
        (1, Some("southsea.parking"))
    );
}

#[tokio::test]
async fn an_authority_that_is_away_takes_no_part_out_of_a_cell() {
    let (city, town) = start(Some(ROOM)).await;
    let partial = || city.ana().header("x-guildhall-partial", "on");
    let info = partial().info(statement(BY_WARD)).await.unwrap();
    town.parties.goes_away(City::authority("southsea"));
    let named = |refused: Status| {
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        let message = refused.message();
        assert!(
            message.contains("the authority of `southsea` did not answer"),
            "{message}"
        );
        assert!(message.contains("group by council"), "{message}");
    };
    // It went after planning, or was gone before: northmoor's cells are not given for the city's.
    named(partial().fetch(&info).await.unwrap_err());
    let city_again = || {
        city.client("bob", &["planning"])
            .header("x-guildhall-partial", "on")
    };
    named(city_again().ask(BY_WARD).await.unwrap_err());
    assert!(town.released().is_empty());
    assert!(town.ran.lock().unwrap().is_empty());
    let one = "SELECT ward, count(*) AS n FROM city.parking.stays WHERE council = 'northmoor' GROUP BY ward";
    for sql in [BY_COUNCIL, one] {
        let rest = city_again().ask(sql).await.unwrap();
        assert_eq!(
            (rest.rows(), rest.missing.as_deref()),
            (1, Some("southsea")),
            "{sql}"
        );
    }
}

async fn is_refused_before_anything_is_asked(city: &City, town: &Town, why: &str) {
    let refused = refused_anyhow(city, BY_WARD).await;
    assert_eq!(refused.code(), Code::PermissionDenied);
    let message = refused.message();
    assert!(
        message.contains(why) && message.contains("group by council"),
        "{message}"
    );
    assert!(town.asked().is_empty() && town.released().is_empty());
}

#[tokio::test]
async fn products_that_are_not_offered_together_are_refused_before_anything_is_asked() {
    let (city, town) = start(Some(ROOM)).await;
    town.distinct.store(false, Ordering::SeqCst);
    is_refused_before_anything_is_asked(&city, &town, "is not released together").await;
}

#[tokio::test]
async fn without_a_clean_room_parts_are_refused_before_anything_is_asked() {
    let (city, town) = start(None).await;
    is_refused_before_anything_is_asked(&city, &town, "no clean room is configured").await;
}

async fn first_of(client: &Client, sql: &str) -> tonic::Streaming<arrow_flight::FlightData> {
    let info = client.info(statement(sql)).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let request = client.request(ticket);
    let mut stream = client
        .inner
        .clone()
        .do_get(request)
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_goes_ends_the_clean_rooms_work() {
    let (city, town) = start(Some(ROOM)).await;
    for sql in [BY_WARD.to_owned(), format!("{BY_WARD} ORDER BY n + 1")] {
        let (tell, dropped) = oneshot::channel();
        *town.dropped.lock().unwrap() = Some(tell);
        drop(first_of(&city.ana(), &sql).await);
        dropped.await.unwrap();
    }
}
