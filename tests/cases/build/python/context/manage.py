#!/usr/bin/env python
import web
