//! What nodes send, and what becomes of it.

use super::{COUNCILS, Town};
use crate::error::Error;
use crate::gather::{Offer, Room, tables, terms_of};
use crate::release::agree;
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use futures::{StreamExt as _, stream};
use guildhall_client::arrow_message::ArrowEncoder;
use guildhall_cube::{Question, levels};
use guildhall_disclosure::joint::Tables;
use guildhall_disclosure::{Gathering, NoiseSecret, OwnerDraws, Released};
use guildhall_grant::Statement as _;
use guildhall_grant::product::{Column, Dimension, Product};
use guildhall_model::{ColumnClass, Digest, ReleaseClass};
use guildhall_plan::cube::{CubeAgg, CubeAggregate, CubeKey, CubeQuery};
use guildhall_plan::profile;
use guildhall_proto::node::v1::contribution::Kind;
use guildhall_proto::node::v1::{Contribution, TablePart, Terms};
use std::sync::Arc;

/// People of each council's wards: of the first, few everywhere.
const PEOPLE: [[(&str, u32); 3]; 2] = [
    [("few", 6), ("north", 90), ("south", 70)],
    [("few", 7), ("north", 80), ("south", 60)],
];

fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![text("vehicle"), text("ward")]))
}

fn schema_bytes() -> Vec<u8> {
    schema_bytes_of(&schema())
}

/// A schema as a product carries it.
pub(super) fn schema_bytes_of(schema: &SchemaRef) -> Vec<u8> {
    let generator = IpcDataGenerator::default();
    let mut tracker = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    let encoded = generator.schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options);
    let mut bytes = vec![0xff; 4];
    bytes.extend(
        u32::try_from(encoded.ipc_message.len())
            .unwrap()
            .to_le_bytes(),
    );
    bytes.extend(encoded.ipc_message);
    bytes
}

fn product(council: &str) -> Product {
    let column = |name: &str, class| Column {
        name: name.parse().unwrap(),
        class,
        doc: String::new(),
        reads: Default::default(),
    };
    let other = COUNCILS.iter().find(|c| **c != council).unwrap();
    Product {
        council: council.parse().unwrap(),
        department: "parking".parse().unwrap(),
        name: "stays".parse().unwrap(),
        version: 1,
        doc: String::new(),
        class: ReleaseClass::Aggregate,
        purposes: ["transport_planning".parse().unwrap()].into(),
        conforms_to: Some("stays".parse().unwrap()),
        unit: Some("vehicle".parse().unwrap()),
        minimum_group: 10,
        max_rows_per_unit: 1,
        columns: vec![
            column("vehicle", ColumnClass::Identifier),
            column("ward", ColumnClass::Quasi),
        ],
        dimensions: vec![Dimension {
            column: "ward".parse().unwrap(),
            roll_ups: vec![],
            values: vec![],
            within: None,
        }],
        measures: vec![],
        arrow_schema: schema_bytes(),
        definition: Digest::of(b"file"),
        row_count: None,
        always_reads: Default::default(),
        node: format!("spiffe://{council}/parking/node/parking-1")
            .parse()
            .unwrap(),
        budgets: vec![],
        joint_with: [format!("{other}.parking.stays").parse().unwrap()].into(),
        linkable: None,
    }
}

/// Units by ward.
fn query(product: &Product) -> CubeQuery {
    CubeQuery {
        product: product.product_ref(),
        unit: "vehicle".parse().unwrap(),
        keys: vec![CubeKey {
            name: "ward".to_owned(),
            column: "ward".parse().unwrap(),
            roll_up: None,
            data_type: DataType::Utf8,
        }],
        filters: vec![],
        aggregates: vec![CubeAggregate {
            name: "n".to_owned(),
            aggregate: CubeAgg::CountUnits,
            argument: None,
            data_type: DataType::Int64,
        }],
    }
}

fn fragment(product: &Product, query: &CubeQuery) -> Vec<u8> {
    let state = guildhall_plan::session::state_over(&product.product_ref(), &schema()).unwrap();
    profile::encode(&query.canonical_plan(&schema()).unwrap(), &state).unwrap()
}

fn secret(owner: usize) -> NoiseSecret {
    NoiseSecret::from_bytes([u8::try_from(owner).unwrap(); 32])
}

/// The tables of a council's lattice, as its node makes them.
fn made(owner: usize, product: &Product, query: &CubeQuery) -> Tables {
    let (mut wards, mut vehicles) = (Vec::new(), Vec::new());
    for (ward, people) in PEOPLE[owner] {
        for n in 0..people {
            wards.push(ward);
            vehicles.push(format!("{owner} {ward} {n}"));
        }
    }
    let key: ArrayRef = Arc::new(StringArray::from(wards));
    let unit: ArrayRef = Arc::new(StringArray::from(vehicles));
    let mut gathering = Gathering::new(secret(owner), vec![]);
    gathering.push(&[key], &unit, &[]).unwrap();
    let gathered = gathering.finish().unwrap();
    let schema = schema();
    let axes = Question::new(query, product, &schema)
        .unwrap()
        .axes()
        .unwrap();
    let table = |levels: Vec<usize>| {
        let table = gathered.table(&axes, &levels, &[]).unwrap();
        (levels, table)
    };
    levels(&axes).into_iter().map(table).collect()
}

fn messages(tables: &Tables) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (levels, table) in tables {
        let mut encoder = ArrowEncoder::default();
        let mut messages = vec![encoder.schema(table.schema_ref())];
        messages.extend(encoder.batch(table).unwrap());
        let levels: Vec<u32> = levels.iter().map(|l| u32::try_from(*l).unwrap()).collect();
        let part = |message| TablePart {
            levels: levels.clone(),
            message: Some(message),
        };
        kinds.extend(messages.into_iter().map(part).map(Kind::Table));
    }
    kinds.push(Kind::Tables(u32::try_from(tables.len()).unwrap()));
    kinds
}

/// Two councils' offers, after `change` of the second one's product, question, tables and messages.
struct Change {
    product: fn(&mut Product),
    query: fn(&mut CubeQuery),
    tables: fn(&mut Tables),
    messages: fn(&mut Vec<Kind>),
}

impl Default for Change {
    fn default() -> Self {
        Self {
            product: |_| {},
            query: |_| {},
            tables: |_| {},
            messages: |_| {},
        }
    }
}

fn offers(change: &Change) -> Vec<Offer> {
    let town = Town::new();
    let (mut products, mut queries) = (Vec::new(), Vec::new());
    for (owner, council) in COUNCILS.iter().enumerate() {
        let mut product = product(council);
        let mut query = query(&product);
        if owner == 1 {
            (change.product)(&mut product);
            (change.query)(&mut query);
        }
        products.push(product);
        queries.push(query);
    }
    let fragments: Vec<Vec<u8>> = products
        .iter()
        .zip(&queries)
        .map(|(p, q)| fragment(p, q))
        .collect();
    let parts = (0..2).map(|owner| town.part(owner, &fragments[owner], |_| {}));
    let parts = town.enter(parts.collect()).unwrap();
    let offer = |(owner, part)| {
        let (product, query) = (&products[owner], &queries[owner]);
        let mut tables = made(owner, product, query);
        if owner == 1 {
            (change.tables)(&mut tables);
        }
        let mut kinds = messages(&tables);
        if owner == 1 {
            (change.messages)(&mut kinds);
        }
        let kinds = kinds
            .into_iter()
            .map(|kind| Ok(Contribution { kind: Some(kind) }));
        Offer {
            part,
            product: product.clone(),
            draws: OwnerDraws {
                secret: secret(owner).draws(),
                totals: vec![],
            },
            rest: stream::iter(kinds).boxed(),
        }
    };
    parts.into_iter().enumerate().map(offer).collect()
}

async fn released(change: Change) -> Result<Released, Error> {
    agree(offers(&change), false)?
        .release(&Room::new(1), ())
        .await
}

#[tokio::test]
async fn few_at_each_of_two_owners_are_released_when_they_are_enough_together() {
    let batch = released(Change::default()).await.unwrap().into_batch();
    let wards = batch.column(0).as_string::<i32>();
    let counts = batch.column(1).as_primitive::<Int64Type>();
    let mut told = std::collections::BTreeMap::new();
    for row in 0..batch.num_rows() {
        told.insert(wards.value(row).to_owned(), counts.value(row));
    }
    for (ward, truth) in [("few", 13), ("north", 170), ("south", 130)] {
        // Noise may take a cell of 13 below the minimum, and another for its margin.
        if let Some(count) = told.get(ward) {
            assert!((count - truth).abs() <= 5, "{ward}: {count}");
        }
    }
    assert!(told.values().all(|n| *n >= 10), "{told:?}");
}

#[tokio::test]
async fn owners_name_each_other_and_ask_the_same_or_nothing_is_put_together() {
    let with: [fn(&mut Product); 3] = [
        |p| p.conforms_to = Some("permits".parse().unwrap()),
        |p| p.joint_with.clear(),
        |p| {
            p.joint_with
                .insert("eastfold.parking.stays".parse().unwrap());
        },
    ];
    for product in with {
        let change = Change {
            product,
            ..Change::default()
        };
        let refused = released(change).await.unwrap_err();
        assert!(matches!(refused, Error::Owners { .. }), "{refused}");
    }
    let whole = Change {
        query: |q| q.keys.clear(),
        ..Change::default()
    };
    let refused = released(whole).await.unwrap_err();
    assert!(matches!(refused, Error::OtherQuestion { .. }), "{refused}");
}

#[tokio::test]
async fn a_part_that_breaks_off_or_goes_on_is_no_part() {
    type Wrong = (&'static str, fn(&mut Vec<Kind>));
    let wrong: [Wrong; 5] = [
        ("was not asked for", |kinds| {
            if let Kind::Table(part) = &mut kinds[0] {
                part.levels.push(1);
            }
        }),
        ("it broke off", |kinds| drop(kinds.pop())),
        ("it broke off", |kinds| {
            let last = kinds.pop().unwrap();
            kinds.truncate(2);
            kinds.push(last);
        }),
        ("it went on after the end", |kinds| {
            kinds.push(Kind::Tables(2))
        }),
        ("cannot be read", |kinds| {
            let again = kinds[0].clone();
            kinds.insert(1, again);
        }),
    ];
    for (said, messages) in wrong {
        let change = Change {
            messages,
            ..Change::default()
        };
        let refused = released(change).await.unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(
            refused.to_string().contains("`parking` of southmere"),
            "{refused}"
        );
    }
}

/// The finest table with a column of facts at one value.
fn put(tables: &mut Tables, value: u64) {
    let (_, cells) = tables.iter_mut().find(|(l, _)| l == &[1]).unwrap();
    let mut columns = cells.columns().to_vec();
    columns[1] = Arc::new(UInt64Array::from(vec![value; cells.num_rows()]));
    *cells = RecordBatch::try_new(cells.schema(), columns).unwrap();
}

#[tokio::test]
async fn a_node_that_lies_is_named_and_nothing_is_released() {
    let lies: [fn(&mut Tables); 3] = [
        |tables| put(tables, 0),
        |tables| put(tables, 1_000_000),
        |tables| {
            let again = tables[1].1.clone();
            tables[1].1 =
                arrow::compute::concat_batches(&again.schema(), [&again, &again]).unwrap();
        },
    ];
    for tables in lies {
        let change = Change {
            tables,
            ..Change::default()
        };
        let refused = released(change).await.unwrap_err();
        assert!(matches!(refused, Error::Joint { .. }), "{refused}");
        let status = refused.status();
        assert!(
            status.message().contains("southmere.parking.stays"),
            "{status}"
        );
        assert!(!status.message().contains("few"), "{status}");
    }
}

#[test]
fn terms_are_read_if_they_are_whole_and_not_too_long() {
    let terms = |change: fn(&mut Terms)| {
        let mut terms = Terms {
            product: Some(product("northmoor").to_wire()),
            totals: vec![],
            draws: vec![7; 32],
        };
        change(&mut terms);
        terms_of(terms)
    };
    assert!(terms(|_| {}).is_some());
    assert!(terms(|t| t.draws.truncate(31)).is_none());
    assert!(terms(|t| t.product = None).is_none());
    assert!(terms(|t| t.totals = vec!["x".repeat(300 << 10)]).is_none());
}

#[tokio::test]
async fn parts_that_take_more_memory_than_one_question_may_are_not_taken_in() {
    let mut offers = offers(&Change::default());
    let refused = tables(&mut offers[0], &[vec![0], vec![1]], &Room::new(0))
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::TooLarge { mebibytes: 0 }));
}
