#!/usr/bin/env python3
"""Pictures of the server's page for the docs: a short conversation with the demo model in headless Chromium, light and dark.

usage: page_pictures.py ODMOE MODEL FOLDER      writes server-page.png and server-page-dark.png. Needs selenium, chromium and chromedriver.
"""
import subprocess, sys, time
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

SAMPLING = "{temperature: 0.7, max_tokens: 220, ignore_eos: true, seed: 7}"


def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,900", "--proxy-server=direct://"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def ask(d, text):
    d.find_element("css selector", "#prompt").send_keys(text)
    d.find_element("css selector", "#send").click()
    while d.find_element("css selector", "#stop").is_enabled():
        time.sleep(0.5)
    time.sleep(3)


def main():
    odmoe, model, folder = sys.argv[1:]
    server = subprocess.Popen([odmoe, "serve", "-m", model, "--ram", "24MiB", "--port", "0"], stdout=subprocess.PIPE, text=True)
    d = browser()
    try:
        d.get(server.stdout.readline().split()[-1])
        time.sleep(2)
        d.execute_script(f"const f = window.fetch; window.fetch = (u, o) => f(u, o && o.body ? {{...o, body: JSON.stringify({{...JSON.parse(o.body), ...{SAMPLING}}})}} : o)")
        ask(d, "Tell me about the king of the island.")
        ask(d, "And what did the people say?")
        d.save_screenshot(f"{folder}/server-page.png")
        d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        time.sleep(2)
        d.save_screenshot(f"{folder}/server-page-dark.png")
    finally:
        d.quit()
        server.terminate()
        server.wait()


main()
