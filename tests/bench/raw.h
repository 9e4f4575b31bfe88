/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What raw-server takes and gives: about what a get and its answer take. */
#define RAW_REQUEST 40
#define RAW_REPLY   96
