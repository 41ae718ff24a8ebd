//! A ready cast of scripted contacts, with names, photos, presence and answers.
use std::time::Duration;

use super::persona::Persona;
use super::service::Service;
use super::world::{Account, ServiceError};

const BIRDS: [&str; 20] = [
    "Robin", "Wren", "Heron", "Swift", "Kestrel", "Dipper", "Siskin", "Avocet", "Plover", "Curlew", "Osprey", "Merlin",
    "Linnet", "Godwit", "Gannet", "Bittern", "Dunlin", "Whinchat", "Fulmar", "Redstart",
];

/// `count` contacts of `owner`: the birds, numbered from the second round on. Each third only listens.
pub fn contacts(service: &Service, owner: &str, count: usize) -> Result<Vec<Account>, ServiceError> {
    let mut cast = Vec::new();
    for index in 0..count {
        let bird = BIRDS.get(index % BIRDS.len()).copied().unwrap_or_default();
        let name = if index < BIRDS.len() { bird.to_owned() } else { format!("{bird} {}", index / BIRDS.len() + 1) };
        let email = format!("{}@messenger.example", name.to_lowercase().replace(' ', "."));
        let contact = service.add_account(&email, &name, &format!("{}-password", name.to_lowercase()))?;
        service.set_vcard(&contact.jid, &name, &format!("{name} the bird"), Some(picture(index)))?;
        service.befriend(owner, &contact.jid, &name)?;
        match index % 3 {
            0 => service.autoreply(&contact.jid, Some(Persona::friendly().typing(Duration::from_millis(900))))?,
            1 => service.autoreply(&contact.jid, Some(Persona::echo()))?,
            _ => service.away(&contact.jid, "Out flying")?,
        }
        cast.push(contact);
    }
    Ok(cast)
}

/// A small PNG of one colour, another for each index.
pub fn picture(index: usize) -> Vec<u8> {
    const SIDE: u32 = 48;
    let shade = |step: usize| u8::try_from(60 + index.wrapping_mul(step) % 160).unwrap_or(128);
    let colour = [shade(37), shade(71), shade(113)];
    // Each row begins with its filter, none.
    let row: Vec<u8> = std::iter::once(0).chain((0..SIDE).flat_map(|_| colour)).collect();
    let rows: Vec<u8> = (0..SIDE).flat_map(|_| row.clone()).collect();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(SIDE.to_be_bytes());
    header.extend(SIDE.to_be_bytes());
    // 8 bits, RGB, the only compression, filter and no interlace.
    header.extend([8, 2, 0, 0, 0]);
    chunk(&mut png, *b"IHDR", &header);
    chunk(&mut png, *b"IDAT", &zlib_stored(&rows));
    chunk(&mut png, *b"IEND", &[]);
    png
}

fn chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    png.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    let checked: Vec<u8> = kind.iter().chain(data).copied().collect();
    png.extend(&checked);
    png.extend(crc32(&checked).to_be_bytes());
}

/// zlib with stored blocks only (RFC 1950, RFC 1951 3.2.4).
fn zlib_stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = data.chunks(0xffff);
    let last = blocks.len().saturating_sub(1);
    for (index, block) in blocks.enumerate() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(index == last));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in data {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    out.extend(((b << 16) | a).to_be_bytes());
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
#[test]
fn the_checksum_is_png_s() {
    // The chunk that ends every PNG.
    assert_eq!(crc32(b"IEND"), 0xae42_6082);
}
