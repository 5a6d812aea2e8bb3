//! `tls-server-end-point`: the hash of the server's certificate that binds
//! SCRAM to the TLS channel (RFC 5929, section 4.1).
//!
//! 1. The hash function is that of the certificate's signature algorithm;
//!    MD5 and SHA-1 are replaced by SHA-256.
//! 2. Where the signature algorithm names none (Ed25519, Ed448, ML-DSA) the
//!    binding is undefined: there is none, and no guess.
//! 3. RSASSA-PSS names its hash function in its parameters (RFC 4055); absent,
//!    it is SHA-1, so rule 1 replaces it.
//!
//! The server computes the same from its own certificate. Any other answer
//! than its own fails the authentication, so an algorithm that is missing here
//! is a server that can't be reached with `channel_binding=require`. Of the
//! certificate only the signature algorithm is read: the rest has been judged
//! by rustls, and a stricter parser would refuse certificates that it took.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use spki::der::asn1::{AnyRef, ContextSpecific};
use spki::der::{Decode, SliceReader, Tag, TagNumber};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier};

/// The binding of a certificate in DER; `None` where it has none, or is not a
/// certificate.
pub(super) fn hash(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match hash_function(certificate)? {
        HashFunction::Sha224 => Sha224::digest(certificate).to_vec(),
        HashFunction::Sha256 => Sha256::digest(certificate).to_vec(),
        HashFunction::Sha384 => Sha384::digest(certificate).to_vec(),
        HashFunction::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HashFunction {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

fn hash_function(certificate: &[u8]) -> Option<HashFunction> {
    let algorithm = signature_algorithm(certificate).ok()?;
    if algorithm.oid == RSASSA_PSS {
        return pss_hash_function(algorithm.parameters); // rule 3
    }
    lookup(&SIGNATURES, algorithm.oid)
}

/// The second of the certificate's three parts (RFC 5280, section 4.1).
fn signature_algorithm(certificate: &[u8]) -> spki::der::Result<AlgorithmIdentifierRef<'_>> {
    let mut reader = SliceReader::new(certificate)?;
    let parts = AnyRef::decode(&mut reader)?;
    let mut parts = SliceReader::new(parts.value())?;
    AnyRef::decode(&mut parts)?;
    AlgorithmIdentifierRef::decode(&mut parts)
}

fn pss_hash_function(parameters: Option<AnyRef<'_>>) -> Option<HashFunction> {
    let mut parameters = SliceReader::new(parameters?.value()).ok()?;
    // Each parameter is optional; the hash algorithm is the first.
    if Tag::peek(&parameters)
        .ok()
        .is_none_or(|tag| tag.number() != HASH_ALGORITHM)
    {
        return lookup(&HASHES, SHA_1);
    }
    let hash = ContextSpecific::<AlgorithmIdentifierRef<'_>>::decode(&mut parameters).ok()?;
    lookup(&HASHES, hash.value.oid)
}

fn lookup(
    table: &[(ObjectIdentifier, HashFunction)],
    oid: ObjectIdentifier,
) -> Option<HashFunction> {
    let found = table.iter().find(|(known, _)| *known == oid);
    found.map(|(_, function)| *function)
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const RSASSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");
const SHA_1: ObjectIdentifier = oid("1.3.14.3.2.26");
const HASH_ALGORITHM: TagNumber = TagNumber(0);

/// Signature algorithms that name a hash function, by family.
const SIGNATURES: [(ObjectIdentifier, HashFunction); 15] = [
    // RSA (PKCS #1 v1.5): MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
    (oid("1.2.840.113549.1.1.4"), HashFunction::Sha256),
    (oid("1.2.840.113549.1.1.5"), HashFunction::Sha256),
    (oid("1.2.840.113549.1.1.14"), HashFunction::Sha224),
    (oid("1.2.840.113549.1.1.11"), HashFunction::Sha256),
    (oid("1.2.840.113549.1.1.12"), HashFunction::Sha384),
    (oid("1.2.840.113549.1.1.13"), HashFunction::Sha512),
    // ECDSA: SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
    (oid("1.2.840.10045.4.1"), HashFunction::Sha256),
    (oid("1.2.840.10045.4.3.1"), HashFunction::Sha224),
    (oid("1.2.840.10045.4.3.2"), HashFunction::Sha256),
    (oid("1.2.840.10045.4.3.3"), HashFunction::Sha384),
    (oid("1.2.840.10045.4.3.4"), HashFunction::Sha512),
    // DSA: SHA-1, SHA-224, SHA-256; and SHA-1 by its OIW name.
    (oid("1.2.840.10040.4.3"), HashFunction::Sha256),
    (oid("2.16.840.1.101.3.4.3.1"), HashFunction::Sha224),
    (oid("2.16.840.1.101.3.4.3.2"), HashFunction::Sha256),
    (oid("1.3.14.3.2.29"), HashFunction::Sha256),
];

/// Hash functions by their own names: SHA-1, SHA-224, SHA-256, SHA-384,
/// SHA-512.
const HASHES: [(ObjectIdentifier, HashFunction); 5] = [
    (oid("1.3.14.3.2.26"), HashFunction::Sha256),
    (oid("2.16.840.1.101.3.4.2.4"), HashFunction::Sha224),
    (oid("2.16.840.1.101.3.4.2.1"), HashFunction::Sha256),
    (oid("2.16.840.1.101.3.4.2.2"), HashFunction::Sha384),
    (oid("2.16.840.1.101.3.4.2.3"), HashFunction::Sha512),
];

#[cfg(test)]
mod tests {
    use spki::der::Encode;
    use spki::der::asn1::BitStringRef;

    use super::*;

    /// The three parts of a certificate, the first of them empty.
    fn certificate(algorithm: &str, parameters: Option<AnyRef<'_>>) -> Vec<u8> {
        let algorithm = AlgorithmIdentifierRef {
            oid: oid(algorithm),
            parameters,
        };
        let signature = BitStringRef::from_bytes(&[1, 2, 3]).unwrap();
        let mut parts = vec![0x30, 0];
        parts.extend(der(&algorithm));
        parts.extend(der(&signature));
        der(&AnyRef::new(Tag::Sequence, &parts).unwrap())
    }

    fn der(value: &impl Encode) -> Vec<u8> {
        let mut buffer = [0; 256];
        value.encode_to_slice(&mut buffer).unwrap().to_vec()
    }

    fn pss(hash: Option<&str>) -> Option<HashFunction> {
        let hash = hash.map(|hash| ContextSpecific {
            tag_number: HASH_ALGORITHM,
            tag_mode: spki::der::TagMode::Explicit,
            value: AlgorithmIdentifierRef {
                oid: oid(hash),
                parameters: Some(AnyRef::NULL),
            },
        });
        let mut parameters = hash.map_or(vec![], |hash| der(&hash));
        // [2] saltLength 32, as OpenSSL writes it.
        parameters.extend([0xa2, 3, 2, 1, 32]);
        let parameters = AnyRef::new(Tag::Sequence, &parameters).unwrap();
        hash_function(&certificate("1.2.840.113549.1.1.10", Some(parameters)))
    }

    #[test]
    fn rule_1_the_signatures_hash_function_with_old_ones_replaced() {
        for (algorithm, function) in [
            ("1.2.840.113549.1.1.4", HashFunction::Sha256),
            ("1.2.840.113549.1.1.5", HashFunction::Sha256),
            ("1.2.840.113549.1.1.11", HashFunction::Sha256),
            ("1.2.840.113549.1.1.13", HashFunction::Sha512),
            ("1.2.840.10045.4.1", HashFunction::Sha256),
            ("1.2.840.10045.4.3.1", HashFunction::Sha224),
            ("1.2.840.10045.4.3.2", HashFunction::Sha256),
            ("1.2.840.10045.4.3.3", HashFunction::Sha384),
            ("1.2.840.10045.4.3.4", HashFunction::Sha512),
        ] {
            let found = hash_function(&certificate(algorithm, None));
            assert_eq!(found, Some(function), "{algorithm}");
        }
    }

    #[test]
    fn rule_2_ed25519_has_no_binding() {
        assert_eq!(hash(&certificate("1.3.101.112", None)), None);
    }

    #[test]
    fn rule_3_pss_is_told_by_its_parameters() {
        assert_eq!(
            pss(Some("2.16.840.1.101.3.4.2.2")),
            Some(HashFunction::Sha384)
        );
        assert_eq!(
            pss(Some("2.16.840.1.101.3.4.2.3")),
            Some(HashFunction::Sha512)
        );
        assert_eq!(pss(Some("1.3.14.3.2.26")), Some(HashFunction::Sha256));
        assert_eq!(pss(None), Some(HashFunction::Sha256));
        assert_eq!(pss(Some("1.2.3")), None);
        let bare = certificate("1.2.840.113549.1.1.10", None);
        assert_eq!(hash_function(&bare), None);
    }

    #[test]
    fn the_hash_is_of_the_whole_certificate() {
        let certificate = certificate("1.2.840.10045.4.3.3", None);
        assert_eq!(
            hash(&certificate),
            Some(Sha384::digest(&certificate).to_vec())
        );
    }

    #[test]
    fn what_is_no_certificate_has_no_binding() {
        let whole = certificate("1.2.840.113549.1.1.11", None);
        for end in 0..whole.len() - 8 {
            assert_eq!(hash(&whole[..end]), None);
        }
        assert_eq!(hash(b"HTTP/1.1 400"), None);
    }
}
