use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use super::*;

/// 2030-01-01, in seconds of Unix time.
const NOW: i64 = 1_893_456_000;

struct Ca {
    params: CertificateParams,
    key: KeyPair,
}

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().expect("a key");
    Ca { params, key }
}

impl Ca {
    /// Issues a certificate of this CA until the first day of the year, signed by the given CA or by itself.
    fn until(&self, year: i32, by: Option<&Ca>) -> CertificateDer<'static> {
        let mut params = self.params.clone();
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = match by {
            Some(ca) => params.signed_by(&self.key, &Issuer::from_params(&ca.params, &ca.key)),
            None => params.self_signed(&self.key),
        };
        certificate.expect("a certificate").der().clone()
    }

    fn leaf(&self) -> CertificateDer<'static> {
        self.leaf_with(|_| {})
    }

    fn leaf_with(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2080, 1, 1);
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = params.signed_by(&key, &issuer).expect("a certificate");
        leaf.der().clone()
    }
}

type Ders<'a> = &'a [&'a CertificateDer<'static>];

fn owned(ders: Ders<'_>) -> Vec<CertificateDer<'static>> {
    ders.iter().map(|der| (*der).clone()).collect()
}

/// Lists the same certificates in each order.
fn orders(ders: Ders<'_>) -> Vec<Vec<CertificateDer<'static>>> {
    let Some((first, rest)) = ders.split_first() else {
        return vec![Vec::new()];
    };
    let with = |order: Vec<CertificateDer<'static>>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, (*first).clone());
            order
        })
    };
    orders(rest).into_iter().flat_map(with).collect()
}

/// Checks the intermediates and the anchors, whatever the order of the CAs and however often each comes.
#[track_caller]
fn assert_found(
    leaf: &CertificateDer<'_>,
    issuers: Ders<'_>,
    intermediates: Ders<'_>,
    anchors: Ders<'_>,
) -> Option<End> {
    let mut first_end = None;
    for mut order in orders(issuers) {
        order.extend(order.clone());
        let path = find(leaf, &order, None, NOW).expect("a path");
        assert_eq!(path.intermediates, owned(intermediates));
        assert_eq!(path.anchors, owned(anchors));
        first_end = path.first_end;
    }
    first_end
}

fn year(year: i32) -> i64 {
    date_time_ymd(year, 1, 1).unix_timestamp()
}

#[test]
fn chain_with_two_roots_has_both_as_anchors() {
    let (old, new, below) = (ca("old"), ca("new"), ca("below"));
    let (old_root, new_root) = (old.until(2040, None), new.until(2060, None));
    let by_old = below.until(2050, Some(&old));
    let by_new = below.until(2049, Some(&new));
    let first = assert_found(
        &below.leaf(),
        &[&by_old, &by_new, &old_root, &new_root],
        &[&by_new],
        &[&new_root, &old_root],
    );
    assert_eq!(first.map(|end| end.at), Some(year(2049)));
}

#[test]
fn chain_of_a_root_signed_by_an_older_one_has_both_as_anchors() {
    // With a name of its own, and with the name of the older one.
    for name in ["new", "old"] {
        let (old, new) = (ca("old"), ca(name));
        let (old_root, new_root) = (old.until(2060, None), new.until(2040, None));
        let cross = new.until(2041, Some(&old));
        assert_found(
            &new.leaf(),
            &[&old_root, &new_root, &cross],
            &[&cross],
            &[&old_root, &new_root],
        );
    }
}

#[test]
fn chain_with_an_expired_way_takes_the_other_one() {
    let (old, new, below) = (ca("old"), ca("new"), ca("below"));
    let (old_root, new_root) = (old.until(2060, None), new.until(2060, None));
    let by_old = below.until(2029, Some(&old));
    let by_new = below.until(2031, Some(&new));
    assert_found(
        &below.leaf(),
        &[&by_old, &by_new, &old_root, &new_root],
        &[&by_new],
        &[&new_root],
    );
    let old_root = old.until(2029, None);
    let cross = new.until(2040, Some(&old));
    let leaf = new.leaf();
    assert_found(&leaf, &[&old_root, &new_root, &cross], &[], &[&new_root]);
}

#[test]
fn chain_whose_cross_certificate_leads_nowhere_ends_at_its_root() {
    let (absent, root, below) = (ca("absent"), ca("root"), ca("below"));
    let own_root = root.until(2040, None);
    let cross = root.until(2060, Some(&absent));
    let middle = below.until(2050, Some(&root));
    let end = assert_found(
        &below.leaf(),
        &[&cross, &own_root, &middle],
        &[&middle],
        &[&own_root],
    );
    assert_eq!(
        end,
        Some(End {
            at: year(2040),
            of: "CN=root".to_owned()
        })
    );
}

#[test]
fn chain_without_a_root_has_the_issuing_ca_as_anchor() {
    let (root, middle, lower) = (ca("root"), ca("middle"), ca("lower"));
    let (above, issuing) = (
        middle.until(2040, Some(&root)),
        lower.until(2050, Some(&middle)),
    );
    assert_found(
        &lower.leaf(),
        &[&above, &issuing],
        &[&issuing, &above],
        &[&issuing],
    );
    // Two that have signed one another alone.
    let other = ca("other");
    let (a, b) = (
        other.until(2040, Some(&lower)),
        lower.until(2050, Some(&other)),
    );
    assert_found(&lower.leaf(), &[&a, &b], &[&b], &[&b]);
}

#[test]
fn chain_of_two_equal_ways_takes_the_shorter_one() {
    let (near, far) = (ca("near"), ca("far"));
    let (middle, below) = (ca("middle"), ca("below"));
    let roots = (near.until(2060, None), far.until(2060, None));
    let by_near = below.until(2040, Some(&near));
    let (by_middle, by_far) = (
        below.until(2040, Some(&middle)),
        middle.until(2050, Some(&far)),
    );
    for order in orders(&[&by_middle, &by_far, &by_near, &roots.1, &roots.0]) {
        let path = find(&below.leaf(), &order, None, NOW).expect("a path");
        assert_eq!(path.intermediates, owned(&[&by_near]));
        assert_eq!(path.anchors.len(), 2);
    }
}

#[test]
fn root_that_the_leaf_does_not_lead_to_is_no_anchor() {
    let (root, middle, stranger) = (ca("root"), ca("middle"), ca("stranger"));
    let (own, below) = (root.until(2040, None), middle.until(2050, Some(&root)));
    let strange = [stranger.until(2060, None), ca("root").until(2060, None)];
    for strange in &strange {
        assert_found(&middle.leaf(), &[strange, &own, &below], &[&below], &[&own]);
    }
}

#[test]
fn root_is_what_signs_itself_with_or_without_key_identifiers() {
    for (with_root, with_middle) in [(true, true), (false, false), (true, false), (false, true)] {
        let (mut root, mut middle) = (ca("root"), ca("middle"));
        root.params.use_authority_key_identifier_extension = with_root;
        middle.params.use_authority_key_identifier_extension = with_middle;
        let (own, below) = (root.until(2040, None), middle.until(2050, Some(&root)));
        assert_found(&middle.leaf(), &[&own, &below], &[&below], &[&own]);
    }
}

#[test]
fn issuer_that_cannot_be_read_is_passed_over() {
    let (root, junk) = (ca("root"), CertificateDer::from(vec![0]));
    let own = root.until(2040, None);
    assert_found(&root.leaf(), &[&junk, &own], &[], &[&own]);
}

#[test]
fn ca_counts_from_its_first_second_to_its_last() {
    let mut root = ca("root");
    root.params.not_before = date_time_ymd(2021, 1, 1);
    let (own, leaf) = (root.until(2040, None), root.leaf());
    for (now, refusal) in [
        (year(2021) - 1, Some("UnknownIssuer")),
        (year(2021), None),
        (year(2040), None),
        (
            year(2040) + 1,
            Some("UnknownIssuer; CN=root expired 2040-01-01 0:00:00.0 +00:00:00"),
        ),
    ] {
        let found = find(&leaf, std::slice::from_ref(&own), None, now).err();
        let refusal =
            refusal.map(|why| format!("its chain does not lead to the trust anchors: {why}"));
        assert_eq!(found, refusal, "{now}");
    }
}

#[test]
fn ca_that_may_not_sign_what_it_signed_leads_nowhere() {
    let of = |is_ca: IsCa| {
        let mut it = ca("middle");
        it.params.is_ca = is_ca;
        it
    };
    let root = ca("root");
    let own = root.until(2040, None);
    for (what, upper, refusal) in [
        (
            "a CA of any number of CAs",
            of(IsCa::Ca(BasicConstraints::Unconstrained)),
            None,
        ),
        (
            "a CA of one more CA",
            of(IsCa::Ca(BasicConstraints::Constrained(1))),
            None,
        ),
        (
            "a CA of leaves alone",
            of(IsCa::Ca(BasicConstraints::Constrained(0))),
            Some("PathLenConstraintViolated"),
        ),
        ("a leaf", of(IsCa::ExplicitNoCa), Some("EndEntityUsedAsCa")),
    ] {
        let lower = ca("lower");
        let issuers = [
            own.clone(),
            upper.until(2040, Some(&root)),
            lower.until(2040, Some(&upper)),
        ];
        let found = find(&lower.leaf(), &issuers, None, NOW).err();
        let refusal =
            refusal.map(|why| format!("its chain does not lead to the trust anchors: {why}"));
        assert_eq!(found, refusal, "{what}");
    }
}

#[test]
fn leaf_is_for_any_usage_and_no_ca() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    let root = ca("root");
    let issuers = [root.until(2040, None)];
    for usages in [
        &[][..],
        &[ServerAuth],
        &[ClientAuth],
        &[ServerAuth, ClientAuth],
        &[CodeSigning],
    ] {
        let leaf = root.leaf_with(|leaf| leaf.extended_key_usages = usages.to_vec());
        assert!(find(&leaf, &issuers, None, NOW).is_ok(), "{usages:?}");
    }
    let leaf = root.leaf_with(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let refusal = find(&leaf, &issuers, None, NOW).expect_err("a CA");
    assert!(refusal.contains("CaUsedAsEndEntity"), "{refusal}");
}

#[test]
fn chain_to_configured_anchors_publishes_the_way_to_the_root() {
    let (root, middle, stranger) = (ca("root"), ca("middle"), ca("stranger"));
    let (top, below) = (root.until(2040, None), middle.until(2050, Some(&root)));
    let (leaf, issuers) = (middle.leaf(), [top.clone(), below.clone()]);
    let gone = stranger.until(2029, None);
    let trusted = |anchors: Ders<'_>| find(&leaf, &issuers, Some(&owned(anchors)), NOW);
    for (anchors, expected) in [
        (&[&top, &gone, &top][..], &[&top][..]),
        (&[&below], &[&below]),
        (&[&top, &below], &[&below, &top]),
    ] {
        let path = trusted(anchors).expect("a path");
        assert_eq!(path.intermediates, owned(&[&below]));
        assert_eq!(path.anchors, owned(expected));
    }
    for (anchors, words) in [
        (&[&stranger.until(2040, None)][..], "does not lead"),
        (&[&gone], "its trust anchor CN=stranger expired 2029-01-01"),
        (&[], "does not lead"),
        (&[&CertificateDer::from(vec![0])], "cannot be read"),
    ] {
        let reason = trusted(anchors).expect_err("no path");
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn chain_leads_through_the_configured_ca_despite_a_longer_way() {
    let (root, other) = (ca("root"), ca("other"));
    let (trusted, longer, below) = (ca("trusted"), ca("longer"), ca("below"));
    let (root_own, other_own) = (root.until(2070, None), other.until(2070, None));
    let by_trusted = below.until(2040, Some(&trusted));
    let by_longer = below.until(2060, Some(&longer));
    let anchor = trusted.until(2050, Some(&root));
    for above in [&root, &other] {
        let issuers = [
            &root_own,
            &other_own,
            &anchor,
            &by_trusted,
            &by_longer,
            &longer.until(2060, Some(above)),
        ];
        let path = find(
            &below.leaf(),
            &owned(&issuers),
            Some(&owned(&[&anchor])),
            NOW,
        );
        let path = path.expect("a path");
        assert_eq!(path.intermediates, owned(&[&by_trusted, &anchor]));
    }
}

#[test]
fn chain_that_is_broken_or_not_there_is_an_error() {
    let (root, middle, namesake) = (ca("root"), ca("middle"), ca("middle"));
    let (top, leaf) = (root.until(2040, None), middle.leaf());
    let (below, late) = (
        middle.until(2040, Some(&root)),
        middle.until(2029, Some(&root)),
    );
    let other = namesake.until(2040, Some(&root));
    let nowhere = "its chain does not lead to the trust anchors: UnknownIssuer";
    let forged = "its chain does not lead to the trust anchors: InvalidSignatureForPublicKey";
    let middle_late = format!("{nowhere}; CN=middle expired 2029-01-01 0:00:00.0 +00:00:00");
    let root_late = format!("{nowhere}; CN=root expired 2029-01-01 0:00:00.0 +00:00:00");
    for (what, issuers, refusal) in [
        (
            "nothing",
            &[][..],
            "neither a chain nor an issuing CA came with it",
        ),
        ("a root without what is below it", &[&top], nowhere),
        ("a namesake of the issuer", &[&other, &top], forged),
        ("a namesake of the issuer alone", &[&other], nowhere),
        ("an issuer that has expired", &[&late, &top], &middle_late),
        ("an issuer that has expired, alone", &[&late], &middle_late),
        (
            "a root that has expired",
            &[&below, &root.until(2029, None)],
            &root_late,
        ),
    ] {
        // What comes twice is named once.
        let twice = [owned(issuers), owned(issuers)].concat();
        assert_eq!(
            find(&leaf, &twice, None, NOW),
            Err(refusal.to_owned()),
            "{what}"
        );
    }
    let reason = find(&leaf, &[below, top], None, 0);
    assert!(reason.is_err(), "none of it is valid yet");
}
