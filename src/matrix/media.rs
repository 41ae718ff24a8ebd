//! The homeserver's media, streamed: what a file has of bytes never stands in memory as a whole.

use std::{borrow::Cow, time::Duration};

use reqwest::{
    Body, Response, StatusCode, Url,
    header::{CONTENT_LENGTH, LOCATION},
};
use ruma::{
    MxcUri, UserId,
    api::{
        AppserviceUserIdentity, MatrixVersion, OutgoingRequestAppserviceExt, SupportedVersions,
        auth_scheme::SendAccessToken,
        client::{
            authenticated_media::{get_content, get_content_thumbnail, get_media_config},
            media::create_content,
        },
    },
    media::Method,
};
use serde::Deserialize;

use super::client::{ANSWER_LIMIT, CallError, Client, Refusal, transport};

/// From one piece of media to the next.
const IDLE: Duration = Duration::from_mins(1);
/// Until the homeserver has fetched media of another one and begins to answer.
const FIRST: Duration = Duration::from_mins(2);

/// The sizes in which a person's picture is asked for: homeservers make those near these (Matrix CS API, "Thumbnails").
const PICTURES: [(u32, Method); 2] = [(256, Method::Scale), (96, Method::Crop)];

/// Media on its way from the homeserver.
#[derive(Debug)]
pub struct Download {
    response: Response,
}

/// Where the homeserver has media.
#[derive(Debug)]
pub enum Media {
    /// It gives it itself.
    Here(Download),
    /// It lies elsewhere (Matrix CS API, MSC3860); the token does not go there.
    At(String),
}

#[derive(Deserialize)]
struct Uploaded {
    content_uri: String,
}

impl Client {
    /// `GET /_matrix/client/v1/media/config`: the largest upload. `None` where the homeserver does not say.
    pub async fn largest_upload(&self) -> Result<Option<u64>, CallError> {
        let request = get_media_config::v1::Request::new();
        match self.call_considering("media config", None, request, &versions()).await {
            Ok(answer) => Ok(Some(answer.upload_size.into())),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(CallError::BadAnswer(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `GET /_matrix/client/v1/media/thumbnail/{server}/{media}`: the largest of a few small sizes that has at most `most` bytes.
    pub async fn picture(&self, media: &str, most: usize) -> Result<Vec<u8>, CallError> {
        let (server, id) = <&MxcUri>::from(media)
            .parts()
            .map_err(|_| CallError::BadRequest("it is not the address of media".to_owned()))?;
        for (width, method) in PICTURES {
            let (id, server) = (id.to_owned(), server.to_owned());
            let mut request = get_content_thumbnail::v1::Request::new(id, server, width.into(), width.into());
            request.method = Some(method);
            request.animated = Some(false);
            let answer = self.call_considering("thumbnail", None, request, &versions()).await?;
            if answer.file.len() <= most {
                return Ok(answer.file);
            }
        }
        Err(CallError::BadRequest(format!("the picture has more than {most} bytes in every size")))
    }

    /// `GET /_matrix/client/v1/media/download/{server}/{media}`, with our token.
    pub async fn download(&self, media: &str) -> Result<Media, CallError> {
        let result = self.begin_download(media).await;
        self.counted("download", result)
    }

    async fn begin_download(&self, media: &str) -> Result<Media, CallError> {
        let (server, id) = <&MxcUri>::from(media)
            .parts()
            .map_err(|_| CallError::BadRequest("it is not the address of media".to_owned()))?;
        let request = get_content::v1::Request::new(id.to_owned(), server.to_owned());
        let request = request.try_into_http_request_with_identity::<Vec<u8>>(
            self.base(),
            SendAccessToken::Appservice(self.token().expose()),
            AppserviceUserIdentity::default(),
            Cow::Owned(versions()),
        );
        let request = request.map_err(|error| CallError::BadRequest(error.to_string()))?;
        let request = reqwest::Request::try_from(request)
            .map_err(|_| CallError::BadRequest("the homeserver's address is not an HTTP one".to_owned()))?;
        let response = tokio::time::timeout(FIRST, self.media().execute(request)).await;
        let response = response.map_err(|_| CallError::Timeout)?.map_err(|error| transport(&error))?;
        let status = response.status();
        if status.is_redirection() {
            let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
            let place = place.and_then(|place| response.url().join(place).ok());
            return place.map(|place| Media::At(place.to_string())).ok_or(CallError::BadAnswer("download"));
        }
        if status != StatusCode::OK {
            return Err(refused(response).await);
        }
        Ok(Media::Here(Download { response }))
    }

    /// `POST /_matrix/media/v3/upload` of exactly `size` bytes: the `mxc://` URI.
    pub async fn upload_stream(
        &self,
        user: &UserId,
        (name, mime, size): (&str, &str, u64),
        body: Body,
    ) -> Result<String, CallError> {
        let result = self.upload_whole(user, (name, mime, size), body).await;
        self.counted("upload", result)
    }

    async fn upload_whole(
        &self,
        user: &UserId,
        (name, mime, size): (&str, &str, u64),
        body: Body,
    ) -> Result<String, CallError> {
        let mut request = create_content::v3::Request::new(Vec::new());
        request.content_type = Some(mime.to_owned());
        request.filename = Some(name.to_owned());
        let request = request.try_into_http_request_with_identity::<Vec<u8>>(
            self.base(),
            SendAccessToken::Appservice(self.token().expose()),
            AppserviceUserIdentity::new(user),
            Cow::Owned(versions()),
        );
        let (parts, _) = request.map_err(|error| CallError::BadRequest(error.to_string()))?.into_parts();
        let url = Url::parse(&parts.uri.to_string())
            .map_err(|_| CallError::BadRequest("the homeserver's address is not an HTTP one".to_owned()))?;
        let mut headers = parts.headers;
        headers.insert(CONTENT_LENGTH, size.into());
        let request = self.media().request(parts.method, url).headers(headers).body(body);
        let response = request.send().await.map_err(|error| transport(&error))?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let answer: Uploaded =
            serde_json::from_slice(&limited(response).await?).map_err(|_| CallError::BadAnswer("upload"))?;
        <&MxcUri>::from(answer.content_uri.as_str()).validate().map_err(|_| CallError::BadAnswer("upload"))?;
        Ok(answer.content_uri)
    }
}

impl Download {
    /// Bytes, where the homeserver says it.
    pub fn size(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, CallError> {
        let next = tokio::time::timeout(IDLE, self.response.chunk()).await.map_err(|_| CallError::Timeout)?;
        next.map_err(|error| transport(&error))
    }
}

async fn refused(response: Response) -> CallError {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    match limited(response).await {
        Ok(body) => CallError::Refused(Box::new(Refusal::read(status, &headers, &body))),
        Err(error) => error,
    }
}

async fn limited(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = tokio::time::timeout(IDLE, response.chunk())
        .await
        .map_err(|_| CallError::Timeout)?
        .map_err(|error| transport(&error))?
    {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(CallError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Media is given only to those who say who they are, on paths that came with Matrix 1.11.
pub(super) fn versions() -> SupportedVersions {
    SupportedVersions { versions: [MatrixVersion::V1_1, MatrixVersion::V1_11].into(), features: [].into() }
}
