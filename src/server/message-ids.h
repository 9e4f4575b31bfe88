/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a journal entry is about, for journalctl MESSAGE_ID=. One line each; never changed once released. */

#define MESSAGE_STARTED            "6c6a3082ec134ca495153d995b3e30ab"
#define MESSAGE_STOPPED            "2df766812db14845965883c7f8397bbe"
#define MESSAGE_RELOADED           "a436163d6a984b03814c53d6066afa8c"
#define MESSAGE_RELOAD_REFUSED     "7fb4cf477afc4e9aa054e5102bd30849"
#define MESSAGE_SESSION_REFUSED    "2824a9bdabb442678e006363d684e326"
#define MESSAGE_SESSION_DROPPED    "453a12e1b7f54dcea50018ff8014277f"
#define MESSAGE_STORE_DAMAGED      "07ec3634690b4c95a13dedaf47b6e3ac"
#define MESSAGE_STORE_WRITE_FAILED "8cc7b0c7cdaa4074bc8df5e89dbb9936"
#define MESSAGE_STORE_RECOVERED    "7ca5e8b0831c49738eed7cba0fa1753b"
#define MESSAGE_ACCEPT_FAILED      "75f6258560564989b5e74bd070edce84"
#define MESSAGE_VIEW_UNUSABLE      "24246d6c018843bc9f2e278e9ed9a095"
#define MESSAGE_STORE_SWEPT        "9c4991b6ba6c4479b925ae2e1b803c45"
#define MESSAGE_ACCESS_REFUSED     "710565abde534923886f8dde7afd7cc9"
#define MESSAGE_CACHE_FAILED       "44545be6e0e849e1b48c8beef83e7405"
#define MESSAGE_CACHE_RECOVERED    "cab35a13c6ba4dcea16d87ec186b9d31"
#define MESSAGE_BODY_UNREADABLE    "4ac5761eab8e4bf7aafff0923f3c556c"
#define MESSAGE_BODY_READABLE      "7e3bbe3eb6324b4494106794bf9aecdb"
