//! messenger_service
