//! What lies on the disk: nothing that can be read, nothing that can be swapped unnoticed.

use std::time::Duration;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, EnvOpenOptions};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::{GroupId, RecordTag};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::sync::Holdings as _;
use waypost_protocol::time::UnixTime;
use waypost_store::{Change, Freeing, PeerClass};

use crate::kit::*;

/// Opens the database behind the store's back and changes a table.
#[allow(unsafe_code, reason = "the test is the only one who has it open")]
pub(crate) fn tamper(kit: &mut Kit, table: &str, change: impl FnOnce(&mut Vec<(Vec<u8>, Vec<u8>)>)) {
    kit.close();
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 20).max_dbs(64);
    let env = unsafe { options.open(kit.folder.path()).unwrap() };
    let txn = env.write_txn().unwrap();
    let database: Database<Bytes, Bytes> = env
        .create_databases_and_commit(txn, |opener, txn| {
            opener.create_database(txn, Some(table)).map(CommitOrAbort::<_, ()>::Commit)
        })
        .unwrap()
        .unwrap_commit();
    let mut txn = env.write_txn().unwrap();
    let rows = database.iter(&txn).unwrap().map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())));
    let mut rows: Vec<_> = rows.collect::<Result<_, _>>().unwrap();
    database.clear(&mut txn).unwrap();
    change(&mut rows);
    for (key, value) in rows {
        database.put(&mut txn, &key, &value).unwrap();
    }
    txn.commit().unwrap();
    drop(env);
    kit.reopen();
}

#[test]
fn nothing_planted_can_be_found_in_the_file() {
    let mut kit = Kit::new();
    let planted: [&[u8]; 12] = [
        b"PLANTEDBODYPLANTEDBODY",
        &[0xc1; 32], // group
        &[0xc2; 16], // record tag
        &[0xc3; 20], // destination
        &[0xc4; 32], // depositor
        b"PLANTEDNOTE",
        b"PLANTEDLABEL",
        &[0xc5; 16], // pairing secret
        b"PLANTEDKEY",
        b"PLANTEDVALUE",
        &[0xc6; 16], // a peer's store
        b"PLANTEDSIGNATURE",
    ];
    let mut header = header();
    header.destination = waypost_protocol::ids::Fingerprint::V4([0xc3; 20]);
    header.record = Some(RecordTag([0xc2; 16]));
    let mut documents = Vec::new();
    for size in [1, 2_000] {
        let body = waypost_protocol::envelope::assemble(&header, &planted[0].repeat(size)).unwrap();
        let document =
            waypost_protocol::document::Document::new(GroupId([0xc1; 32]), UnixTime(0), body).unwrap();
        let mut new = new_document(&document, Some(waypost_protocol::ids::PeerKey([0xc4; 32])));
        new.note = Some("PLANTEDNOTE".into());
        kit.apply(Change::Document(Box::new(new))).unwrap();
        documents.push(document);
    }
    let under_way = document(5, 50_000);
    kit.apply(piece(&under_way, 0..40_000, peer(0xc4))).unwrap();
    let peer = peer(0xc4);
    kit.apply(Change::PutPeer { peer, class: PeerClass::Paired, label: Some("PLANTEDLABEL".into()) })
        .unwrap();
    kit.apply(Change::PeerSeen { peer, store: Some(store_id(0xc6)), label: None, advertising_key: None })
        .unwrap();
    let valid = Some(Duration::from_secs(9));
    let secret = CodeSecret::new([0xc5; 16]);
    kit.apply(Change::AddCode { secret: secret.clone(), class: PeerClass::Paired, valid, poster: None })
        .unwrap();
    kit.apply(Change::Put { key: "PLANTEDKEY".into(), value: Some(b"PLANTEDVALUE".to_vec()) }).unwrap();
    let mut confirmation = confirmation(header.destination, &[documents[0].id()], Verdict::Opened);
    let signature = bytes::Bytes::from_static(b"PLANTEDSIGNATURE");
    confirmation =
        waypost_protocol::confirmation::Confirmation::new(confirmation.statement, signature).unwrap();
    kit.apply(confirmed(confirmation, Freeing::PHONE)).unwrap();
    kit.close();
    let file = std::fs::read(kit.folder.path().join("data.mdb")).unwrap();
    let finds = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
    for needle in planted {
        assert!(!finds(needle), "{} is readable", String::from_utf8_lossy(needle));
    }
    for id in documents.iter().map(|document| document.id()).chain([under_way.id()]) {
        assert!(!finds(&id.0) && !finds(&id.0[..8]), "an id is readable");
    }
    assert!(!finds(&secret.id().0) && !finds(&under_way.body()[..100]) && !finds(&[7; 32]));
    // The search itself works: table names are in there.
    assert!(finds(b"body_keys"));
}

#[test]
fn swapped_rows_do_not_open_and_are_found() {
    let mut kit = Kit::new();
    let (one, two, three) = (document(1, 10), document(2, 10), document(3, 10));
    for document in [&one, &two, &three] {
        kit.stored(document, None);
    }
    kit.assert_sound();
    tamper(&mut kit, "documents", |rows| {
        let first = std::mem::take(&mut rows[0].1);
        rows[0].1 = std::mem::replace(&mut rows[1].1, first);
    });
    let findings = kit.store().check().unwrap();
    let named: Vec<_> = findings.iter().filter(|finding| finding.table == "documents").collect();
    assert_eq!(named.len(), 2, "{findings:?}");
    assert!(kit.store().standing(&one.id(), None).is_err());
    // The others go on.
    let waiting = kit.store().waiting(&A, None, 10).unwrap();
    assert_eq!(waiting.iter().map(|waiting| waiting.description.id).collect::<Vec<_>>(), [three.id()]);
    let outgoing = kit.store().outgoing(&to(peer(1), store_id(1)), None, 10).unwrap();
    assert_eq!(outgoing.len(), 1);
    kit.stored(&document(4, 10), None);
}

#[test]
fn a_flipped_bit_of_any_row_is_found() {
    for table in
        ["documents", "index", "outbox", "pieces", "body_keys", "partials", "tombstones", "verdicts", "peers"]
    {
        let mut kit = Kit::new();
        for n in 0..4 {
            kit.stored(&document(n, 10), Some(peer(1)));
        }
        kit.apply(piece(&document(5, 50_000), 0..40_000, peer(1))).unwrap();
        kit.apply(Change::Delete { id: document(0, 10).id() }).unwrap();
        kit.confirm(&[document(1, 10).id()], Verdict::Opened).unwrap();
        kit.sweep();
        kit.assert_sound();
        tamper(&mut kit, table, |rows| {
            let middle = rows[0].1.len() / 2;
            rows[0].1[middle] ^= 1;
        });
        assert!(!kit.store().check().unwrap().is_empty(), "{table}");
    }
}

#[test]
fn removed_rows_are_found() {
    for table in
        ["documents", "index", "outbox", "pieces", "body_keys", "confirmations", "verdicts", "peer_index"]
    {
        let mut kit = Kit::new();
        for n in 0..4 {
            kit.stored(&document(n, 10), Some(peer(1)));
        }
        kit.confirm(&[document(1, 10).id()], Verdict::Opened).unwrap();
        kit.sweep();
        tamper(&mut kit, table, |rows| {
            rows.remove(0);
        });
        assert!(!kit.store().check().unwrap().is_empty(), "{table}");
    }
}

#[test]
fn a_damaged_body_under_way_begins_anew() {
    let mut kit = Kit::new();
    let document = document(1, 50_000);
    let len = document.body().len();
    kit.apply(piece(&document, 0..40_000, peer(1))).unwrap();
    tamper(&mut kit, "pieces", |rows| rows[0].1[100] ^= 1);
    assert!(!kit.store().check().unwrap().is_empty());
    let next = kit.apply(piece(&document, 40_000..len, peer(1)));
    assert_eq!(next, Err(waypost_store::ChangeError::Gap { offset: 40_000, committed: 0 }));
    assert_eq!(kit.store().partial(&document.id(), &peer(1)).unwrap(), None);
    kit.apply(piece(&document, 0..40_000, peer(1))).unwrap();
    kit.apply(piece(&document, 40_000..len, peer(1))).unwrap();
    kit.assert_sound();
}

#[test]
fn without_its_key_row_a_deleted_body_cannot_be_opened() {
    let mut kit = Kit::new();
    let document = document(1, 50_000);
    let seq = kit.stored(&document, None);
    let mut saved = Vec::new();
    tamper(&mut kit, "documents", |rows| saved = rows.clone());
    kit.apply(Change::Delete { id: document.id() }).unwrap();
    // An old copy of the document's row, put back: the pieces are still there, their key is not.
    tamper(&mut kit, "documents", |rows| rows.append(&mut saved));
    assert!(kit.store().read_body(seq, 0, 10).unwrap().is_empty());
}
