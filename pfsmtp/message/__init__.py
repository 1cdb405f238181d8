"""The text of messages and their header fields, made and read by pure functions.

trace        the fields a server adds: Received, Return-Path, Delivered-To
header       where a header ends and what it holds; what a submission lacks
report       what a delivery status notification is to say, as values
dsn          the notification as a message (RFC 3464)
explanation  what it tells a person
clean        text from outside, made harmless
"""
