//! What kind of file bytes are: pictures by their first bytes, with their size in pixels; all else by a list of types that a
//! client shows without running anything.

/// So many bytes are looked at; the size of a JPEG stands behind its thumbnail.
pub const LOOKED_AT: usize = 128 * 1024;

/// What a file is shown as if nothing better is known: a client offers it for download, no more.
pub const OCTETS: &str = "application/octet-stream";

/// Types that may stand in a header and mean no harm: none of them is a page, and none carries scripts.
const HARMLESS: [&str; 46] = [
    "application/epub+zip",
    "application/gzip",
    "application/json",
    "application/msword",
    "application/ogg",
    "application/pdf",
    "application/rtf",
    "application/vnd.android.package-archive",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/x-7z-compressed",
    "application/x-bzip2",
    "application/x-tar",
    "application/x-xz",
    "application/zip",
    "application/zstd",
    "audio/3gpp",
    "audio/aac",
    "audio/amr",
    "audio/flac",
    "audio/m4a",
    "audio/mp4",
    "audio/mpeg",
    "audio/ogg",
    "audio/opus",
    "audio/vorbis",
    "audio/wav",
    "audio/webm",
    "audio/x-flac",
    "audio/x-m4a",
    "audio/x-wav",
    "image/avif",
    "image/heic",
    "text/plain",
    "text/vcard",
    "video/3gpp",
    "video/mp4",
    "video/mpeg",
    "video/ogg",
    "video/quicktime",
    "video/webm",
    "video/x-matroska",
];

/// A picture that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its media type.
    pub mime: &'static str,
    /// Pixels across and down, where they stand in what was seen.
    pub dimensions: Option<(u32, u32)>,
}

/// Recognises PNG, JPEG, GIF and WebP by their first bytes.
pub fn picture(bytes: &[u8]) -> Option<Picture> {
    let (mime, dimensions) = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        ("image/png", png(bytes))
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        ("image/jpeg", jpeg(bytes))
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        ("image/gif", little16(bytes, 6).zip(little16(bytes, 8)))
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        ("image/webp", webp(bytes))
    } else {
        return None;
    };
    let dimensions = dimensions.filter(|(width, height)| *width > 0 && *height > 0);
    Some(Picture { mime, dimensions })
}

/// The media type that a header or the sender says, if it is harmless.
pub fn harmless(said: Option<&str>) -> Option<&'static str> {
    let said = said?.split(';').next()?.trim().to_ascii_lowercase();
    HARMLESS.iter().find(|known| **known == said).copied()
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn big16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn little16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

fn little24(bytes: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = bytes.get(at..at + 3)?.try_into().ok()?;
    Some(u32::from_le_bytes([a, b, c, 0]))
}

/// PNG (ISO/IEC 15948) section 11.2.2: IHDR comes first.
fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    (bytes.get(12..16) == Some(b"IHDR")).then(|| big(bytes, 16).zip(big(bytes, 20)))?
}

/// JPEG (ITU-T T.81) section B.2.2: the frame header. EXIF may turn the picture, which clients do themselves.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let (0xff, kind) = (*bytes.get(at)?, *bytes.get(at + 1)?) else { return None };
        if matches!(kind, 0xc0..=0xcf) && !matches!(kind, 0xc4 | 0xc8 | 0xcc) {
            return big16(bytes, at + 7).zip(big16(bytes, at + 5));
        }
        if matches!(kind, 0x01 | 0xd0..=0xd9) {
            at += 2;
        } else {
            at += 2 + usize::try_from(big16(bytes, at + 2)?).ok()?.max(2);
        }
    }
}

/// WebP (RFC 9649) section 2: lossy, lossless and extended.
fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes.get(12..16)? {
        b"VP8 " => {
            let side = |at| little16(bytes, at).map(|side| side & 0x3fff);
            (bytes.get(23..26) == Some(&[0x9d, 0x01, 0x2a])).then(|| side(26).zip(side(28)))?
        }
        b"VP8L" => {
            let bits = u32::from_le_bytes(bytes.get(21..25)?.try_into().ok()?);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => Some((little24(bytes, 24)? + 1, little24(bytes, 27)? + 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(mime: &'static str) -> Option<Picture> {
        (!mime.is_empty()).then_some(Picture { mime, dimensions: Some((640, 480)) })
    }

    #[test]
    fn pictures_are_known_by_their_bytes() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0\x08\x06\0\0\0";
        assert_eq!(picture(png), known("image/png"));
        let mut jpeg = b"\xff\xd8\xff\xe1\x00\x10Exif\0\0thumbnail".to_vec();
        jpeg.resize(2 + 2 + 16, 0);
        jpeg.extend(b"\xff\xff\xdb\x00\x04ab\xff\xc2\x00\x11\x08\x01\xe0\x02\x80\x03");
        assert_eq!(picture(&jpeg), known("image/jpeg"));
        assert_eq!(picture(b"GIF89a\x80\x02\xe0\x01\0"), known("image/gif"));
        let lossy = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\x30\x01\0\x9d\x01\x2a\x80\x02\xe0\x01";
        assert_eq!(picture(lossy), known("image/webp"));
        let lossless = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x7f\xc2\x77\x00";
        assert_eq!(picture(lossless), known("image/webp"));
        let extended = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0";
        assert_eq!(picture(extended), known("image/webp"));
        assert_eq!(picture(b"\xff\xd8\xff\xe0"), Some(Picture { mime: "image/jpeg", dimensions: None }));
        for other in [&b"<html>"[..], b"", b"RIFF\0\0\0\0WAVE", b"%PDF-1.7"] {
            assert_eq!(picture(other), None);
        }
    }

    #[test]
    fn a_header_is_believed_only_where_it_means_no_harm() {
        assert_eq!(harmless(Some("Video/MP4; codecs=x")), Some("video/mp4"));
        for said in
            [Some("text/html"), Some("image/svg+xml"), Some("application/xhtml+xml"), Some("image/png"), Some(""), None]
        {
            // A picture of the four kinds is known by its bytes or not at all.
            assert_eq!(harmless(said), None, "{said:?}");
        }
        assert!(HARMLESS.is_sorted());
    }

    proptest! {
        #[test]
        fn no_bytes_lead_astray(start in 0usize..4, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            let starts: [&[u8]; 4] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 "];
            let found = picture(&[starts[start], &rest].concat());
            prop_assert!(found.is_some());
        }
    }
}
