//! Rows that meet: who may bring them, what is taken in, and what becomes of it.

use super::weighing::schema_bytes_of;
use super::{GATEWAY, ROOM, Town};
use crate::admit::AdmittedPart;
use crate::error::Error;
use crate::gather::{Offer, Room};
use crate::linked::Meeting;
use arrow::array::{
    Array as _, ArrayRef, AsArray as _, FixedSizeBinaryArray, RecordBatch, StringArray, UInt8Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use futures::{StreamExt as _, stream};
use guildhall_client::arrow_message::ArrowEncoder;
use guildhall_disclosure::{NoiseSecret, OwnerDraws, Released};
use guildhall_grant::product::{Column, Dimension, Linkable, Product};
use guildhall_grant::{Grant, GrantedProduct, Linkage};
use guildhall_model::{ColumnClass, Digest, OutputClass, ProductRef, ReleaseClass};
use guildhall_plan::cube::{CubeAgg, CubeAggregate, CubeKey, CubeQuery};
use guildhall_plan::linked::{LinkedMember, LinkedQuery, Presence, Registered, United, encode};
use guildhall_plan::profile;
use guildhall_plan::session::state_over;
use guildhall_proto::clean_room::v1::Part;
use guildhall_proto::node::v1::Contribution;
use guildhall_proto::node::v1::contribution::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;

const DEPARTMENTS: [&str; 2] = ["care", "housing"];
/// What people are told apart by at each.
const DIMENSIONS: [&str; 2] = ["ward", "tenure"];

fn name(department: usize) -> ProductRef {
    format!("northmoor.{}.people", DEPARTMENTS[department])
        .parse()
        .unwrap()
}

fn schema(department: usize) -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text("person"),
        text(DIMENSIONS[department]),
    ]))
}

fn product(department: usize) -> Product {
    let own = name(department);
    let column = |name: &str, class| Column {
        name: name.parse().unwrap(),
        class,
        doc: String::new(),
        reads: Default::default(),
    };
    let dimension = DIMENSIONS[department];
    Product {
        council: own.council.clone(),
        department: own.department.clone(),
        name: own.product,
        version: 1,
        doc: String::new(),
        class: ReleaseClass::Aggregate,
        purposes: ["prevention".parse().unwrap()].into(),
        conforms_to: None,
        unit: Some("person".parse().unwrap()),
        minimum_group: 10,
        max_rows_per_unit: 2,
        columns: vec![
            column("person", ColumnClass::Identifier),
            column(dimension, ColumnClass::Quasi),
        ],
        dimensions: vec![Dimension {
            column: dimension.parse().unwrap(),
            roll_ups: vec![],
            values: vec![],
            within: None,
        }],
        measures: vec![],
        arrow_schema: schema_bytes_of(&schema(department)),
        definition: Digest::of(b"file"),
        row_count: None,
        always_reads: Default::default(),
        node: node(department).parse().unwrap(),
        budgets: vec![],
        joint_with: Default::default(),
        linkable: Some(Linkable {
            identity: "person".parse().unwrap(),
            dpia: "DPIA-1".parse().unwrap(),
            with: [name(1 - department)].into(),
        }),
    }
}

fn node(department: usize) -> String {
    format!("spiffe://northmoor/{}/node/one", DEPARTMENTS[department])
}

/// People by ward, of whom something is true at housing.
fn query(presence: Presence) -> LinkedQuery {
    let member = |department, presence| LinkedMember {
        product: name(department),
        presence,
    };
    let united = United::of(&[
        (registered(&product(0), &schema(0)), Presence::Required),
        (registered(&product(1), &schema(1)), presence),
    ])
    .unwrap();
    LinkedQuery {
        members: vec![member(0, Presence::Required), member(1, presence)],
        cells: CubeQuery {
            product: united.product.product_ref(),
            unit: united.product.unit.clone().unwrap(),
            keys: vec![CubeKey {
                name: "ward".to_owned(),
                column: "care/people/ward".parse().unwrap(),
                roll_up: None,
                data_type: DataType::Utf8,
            }],
            filters: vec![],
            aggregates: [("n", CubeAgg::CountUnits), ("rows", CubeAgg::CountRows)]
                .map(|(name, aggregate)| CubeAggregate {
                    name: name.to_owned(),
                    aggregate,
                    argument: None,
                    data_type: DataType::Int64,
                })
                .into(),
        },
    }
}

fn registered<'a>(product: &'a Product, schema: &'a SchemaRef) -> Registered<'a> {
    Registered { product, schema }
}

/// The rows of a department: somebody's number, and where they are.
type People = Vec<(u32, &'static str)>;

/// Care knows sixty of each ward and eleven more of the north; housing half of each, twice,
/// and forty more.
fn people(department: usize) -> People {
    let mut people = People::new();
    for n in 0..131 {
        let ward = if n % 2 == 0 || n > 119 {
            "north"
        } else {
            "south"
        };
        match department {
            0 => people.push((n, ward)),
            _ if n % 4 < 2 => people.extend([(n, "council"), (n, "private")]),
            _ => {}
        }
    }
    if department == 1 {
        people.extend((200..240).map(|n| (n, "private")));
    }
    people
}

/// Rows as a node sends them, where a token is a person's number, turned about.
fn batch(department: usize, people: &People) -> RecordBatch {
    let mut rows: Vec<(u128, u32, &str)> = people
        .iter()
        .map(|(n, at)| (u128::from(n.wrapping_mul(2_654_435_761)) << 64, *n, *at))
        .collect();
    rows.sort_unstable();
    let tokens: Vec<u8> = rows.iter().flat_map(|(t, _, _)| t.to_be_bytes()).collect();
    let tokens: ArrayRef =
        Arc::new(FixedSizeBinaryArray::try_new(16, tokens.into(), None).unwrap());
    let record = |n: &u32| u8::try_from(n % 256).unwrap();
    let records: ArrayRef = Arc::new(
        rows.iter()
            .map(|(_, n, _)| Some(record(n)))
            .collect::<UInt8Array>(),
    );
    let at: ArrayRef = Arc::new(
        rows.iter()
            .map(|(_, _, at)| Some(*at))
            .collect::<StringArray>(),
    );
    // What nothing is told by is not sent.
    let columns = match department {
        0 => vec![
            ("key0", at, true),
            ("token", tokens, false),
            ("record", records, false),
        ],
        _ => vec![("token", tokens, false), ("record", records, false)],
    };
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn messages(batch: &RecordBatch) -> Vec<Kind> {
    let mut encoder = ArrowEncoder::default();
    let mut messages = vec![encoder.schema(batch.schema_ref())];
    messages.extend(encoder.batch(batch).unwrap());
    let mut kinds: Vec<Kind> = messages.into_iter().map(Kind::Rows).collect();
    kinds.push(Kind::EndOfRows(batch.num_rows() as u64));
    kinds
}

/// What is brought: the question, and what is off about the second part.
struct Brought {
    query: LinkedQuery,
    /// Whether three of those whom housing knows are not at care, and no more.
    few_alone: bool,
    grant: fn(&mut Grant),
    product: fn(&mut Product),
    part: fn(&mut CubeQuery),
    batch: fn(RecordBatch) -> RecordBatch,
    messages: fn(&mut Vec<Kind>),
}

impl Brought {
    fn of(presence: Presence) -> Self {
        Self {
            query: query(presence),
            few_alone: false,
            grant: |_| {},
            product: |_| {},
            part: |_| {},
            batch: |b| b,
            messages: |_| {},
        }
    }

    fn products(&self) -> [Product; 2] {
        let (one, mut other) = (product(0), product(1));
        (self.product)(&mut other);
        [one, other]
    }

    fn question(&self) -> Vec<u8> {
        let (products, schemas) = ([product(0), product(1)], [schema(0), schema(1)]);
        let members: Vec<_> = products
            .iter()
            .zip(&schemas)
            .map(|(p, s)| registered(p, s))
            .collect();
        let state = state_over(&name(0), &schemas[0]).unwrap();
        encode(&self.query, &members, &state).unwrap()
    }

    fn fragment(&self, department: usize) -> Vec<u8> {
        let (product, schema) = (product(department), schema(department));
        let mut part = self
            .query
            .part(department, registered(&product, &schema))
            .unwrap();
        if department == 1 {
            (self.part)(&mut part);
        }
        let state = state_over(&name(department), &schema).unwrap();
        profile::encode(&part.canonical_plan(&schema).unwrap(), &state).unwrap()
    }

    fn entered(&self, town: &Town) -> Result<Vec<AdmittedPart>, Error> {
        let question = self.question();
        let part = |department: usize| -> Part {
            let fragment = self.fragment(department);
            town.part(0, &fragment, |grant| {
                grant.id = format!("g-{department}").parse().unwrap();
                grant.node = node(department).parse().unwrap();
                grant.output = OutputClass::TokenisedRows;
                grant.products = vec![GrantedProduct {
                    department: DEPARTMENTS[department].parse().unwrap(),
                    product: "people".parse().unwrap(),
                    version: 1,
                    columns: ["person", DIMENSIONS[department]]
                        .map(|c| c.parse().unwrap())
                        .into(),
                }];
                grant.linkage = Some(Linkage {
                    id: "l-1".parse().unwrap(),
                    question: Digest::of(&question),
                    products: [name(0), name(1)].into(),
                });
                if department == 1 {
                    (self.grant)(grant);
                }
            })
        };
        let gateway = GATEWAY.parse().unwrap();
        town.enter_with(&gateway, vec![part(0), part(1)], question.clone())
    }

    async fn released(&self) -> Result<Released, Error> {
        let parts = self.entered(&Town::new())?;
        let offers = parts.into_iter().zip(self.products()).enumerate();
        let offers = offers.map(|(department, (part, product))| {
            let mut known = people(department);
            if self.few_alone {
                known.retain(|(n, _)| *n < 203);
            }
            let mut rows = batch(department, &known);
            let mut kinds = Vec::new();
            if department == 1 {
                rows = (self.batch)(rows);
            }
            kinds.extend(messages(&rows));
            if department == 1 {
                (self.messages)(&mut kinds);
            }
            let kinds = kinds
                .into_iter()
                .map(|kind| Ok(Contribution { kind: Some(kind) }));
            let secret = NoiseSecret::from_bytes([u8::try_from(department).unwrap(); 32]);
            Offer {
                part,
                product,
                draws: OwnerDraws {
                    secret: secret.draws(),
                    totals: vec![],
                },
                rest: stream::iter(kinds).boxed(),
            }
        });
        let meeting = Meeting::of(offers.collect(), &self.question(), false)?;
        meeting.release(&Room::new(8), ()).await
    }

    async fn fails(&self) -> Error {
        self.released().await.err().unwrap()
    }
}

/// By ward the units and the rows.
async fn told(brought: &Brought) -> BTreeMap<String, (i64, i64)> {
    let batch = brought.released().await.unwrap().into_batch();
    let wards = batch.column(0).as_string::<i32>();
    let number = |column: usize, row| {
        let column = batch.column(column).as_primitive::<Int64Type>();
        if column.is_null(row) {
            -1
        } else {
            column.value(row)
        }
    };
    (0..batch.num_rows())
        .map(|row| {
            (
                wards.value(row).to_owned(),
                (number(1, row), number(2, row)),
            )
        })
        .collect()
}

#[tokio::test]
async fn rows_meet_as_the_question_says() {
    // Of the 131 whom care knows, 71 of the north; at housing those whose number leaves 0 or 1 when it is divided by 4.
    let at = |ward: &str| {
        let known = people(0).into_iter();
        let count = known.filter(|(n, w)| *w == ward && n % 4 < 2).count();
        i64::try_from(count).unwrap()
    };
    for (presence, of_one) in [(Presence::Required, 2), (Presence::Some, 1)] {
        let told = told(&Brought::of(presence)).await;
        for ward in ["north", "south"] {
            let people = at(ward);
            let (units, rows) = told[ward];
            assert!(
                (units - people).abs() <= 5,
                "{presence:?} {ward}: {units}, {people}"
            );
            // The count's noise, once for each row of a unit, and as many steps of their own.
            let far = 5 * of_one + 5;
            assert!(
                (rows - of_one * people).abs() <= far,
                "{presence:?} {ward}: {rows}"
            );
        }
    }
}

#[tokio::test]
async fn the_same_people_have_the_same_noise_whatever_is_seen_of_the_others() {
    let required = told(&Brought::of(Presence::Required)).await;
    let some = told(&Brought::of(Presence::Some)).await;
    for ward in ["north", "south"] {
        assert_eq!(required[ward].0, some[ward].0);
    }
    assert_eq!(required, told(&Brought::of(Presence::Required)).await);
}

/// Care and housing publish how many they know; all but three of housing's are at care.
#[tokio::test]
async fn a_semi_join_holds_back_what_a_join_does() {
    for presence in [Presence::Required, Presence::Some] {
        let mut brought = Brought::of(presence);
        brought.few_alone = true;
        let told = brought.released().await.unwrap().into_batch();
        assert_eq!(told.num_rows(), 0, "{presence:?}");
    }
}

#[tokio::test]
async fn rows_that_cannot_be_fail_the_whole_and_their_department_is_named() {
    let brought = || Brought::of(Presence::Required);
    let turned = |b: RecordBatch| {
        let order = arrow::array::UInt32Array::from_iter_values(
            (0..u32::try_from(b.num_rows()).unwrap()).rev(),
        );
        arrow::compute::take_record_batch(&b, &order).unwrap()
    };
    let untold = |b: RecordBatch| b.project(&[1, 0]).unwrap();
    let more = |b: RecordBatch| b.project(&[0, 1, 1]).unwrap();
    for (what, wrong) in [
        (
            "order",
            Brought {
                batch: turned,
                ..brought()
            },
        ),
        (
            "no tokens",
            Brought {
                batch: untold,
                ..brought()
            },
        ),
        (
            "other values",
            Brought {
                batch: more,
                ..brought()
            },
        ),
        (
            "broke off",
            Brought {
                messages: |m| drop(m.pop()),
                ..brought()
            },
        ),
        (
            "broke off",
            Brought {
                messages: |m| drop(m.remove(1)),
                ..brought()
            },
        ),
        (
            "went on",
            Brought {
                messages: |m| m.extend(m.clone()),
                ..brought()
            },
        ),
        (
            "does not belong",
            Brought {
                messages: |m| m.insert(1, Kind::Tables(1)),
                ..brought()
            },
        ),
    ] {
        let error = wrong.fails().await;
        assert!(
            matches!(error, Error::Contribution { .. }),
            "{what}: {error:?}"
        );
        let said = error.status().message().to_owned();
        assert!(
            said.contains(what) && said.contains("housing"),
            "{what}: {said}"
        );
    }
}

#[tokio::test]
async fn rows_meet_only_as_their_owners_agreed_and_were_asked() {
    let brought = || Brought::of(Presence::Required);
    let alone = Brought {
        product: |p| p.linkable = None,
        ..brought()
    };
    assert!(matches!(alone.fails().await, Error::NotAgreed { .. }));
    // The node was asked for another column than the question takes of it.
    let asked = Brought {
        part: |q| {
            q.keys.push(CubeKey {
                name: "k".to_owned(),
                column: "tenure".parse().unwrap(),
                roll_up: None,
                data_type: DataType::Utf8,
            });
        },
        ..brought()
    };
    assert!(matches!(asked.fails().await, Error::OtherQuestion { .. }));
}

#[test]
fn a_linkage_enters_whole_in_its_own_question_and_nowhere_else() {
    let brought = || Brought::of(Presence::Required);
    assert!(brought().entered(&Town::new()).is_ok());
    for grant in [
        (|g: &mut Grant| g.linkage.as_mut().unwrap().question = Digest::of(b"another"))
            as fn(&mut Grant),
        |g| g.linkage.as_mut().unwrap().id = "l-2".parse().unwrap(),
        |g| drop(g.linkage.as_mut().unwrap().products.pop_last()),
        |g| {
            let third = "northmoor.tax.people".parse().unwrap();
            g.linkage.as_mut().unwrap().products.insert(third);
        },
        |g| {
            g.output = OutputClass::PartialCells;
            g.linkage = None;
        },
        |g| g.recipient = ROOM.replace("main", "other").parse().unwrap(),
        |g| g.purpose = "something_else".parse().unwrap(),
    ] {
        let wrong = Brought { grant, ..brought() };
        let error = wrong.entered(&Town::new()).unwrap_err();
        let refused = matches!(
            error,
            Error::NotPart | Error::Unlike { .. } | Error::Grant { .. }
        );
        assert!(refused, "{error:?}");
    }
}
