package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

type object = map[string]any

// chain is a network configuration list, run without any runtime: what the plugins cost by themselves.
type chain struct {
	options
	name, version string
	plugins       []object
}

func plugins(o options) (samples, error) {
	chain, err := readChain(o)
	if err != nil {
		return nil, err
	}
	s := samples{}
	for i := range o.count {
		if err := chain.life(s, fmt.Sprintf("loop-%d-%d", os.Getpid(), i), firstPort+i); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func readChain(o options) (*chain, error) {
	text, err := os.ReadFile(o.conflist)
	if err != nil {
		return nil, err
	}
	var list struct {
		Name       string   `json:"name"`
		CniVersion string   `json:"cniVersion"`
		Plugins    []object `json:"plugins"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", o.conflist, err)
	}
	return &chain{o, list.Name, list.CniVersion, list.Plugins}, nil
}

// life adds one network namespace to the network and takes it off again; the namespace itself is not timed.
func (c *chain) life(s samples, name string, port int) error {
	if err := exec.Command("ip", "netns", "add", name).Run(); err != nil {
		return fmt.Errorf("ip netns add %s: %w", name, err)
	}
	var result object
	err := s.time("plugins ADD", func() error {
		for _, plugin := range c.plugins {
			output, err := c.call("ADD", plugin, name, port, result)
			if err != nil {
				return err
			}
			result = object{}
			if err := json.Unmarshal(output, &result); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.time("plugins DEL", func() error {
			for i := len(c.plugins) - 1; i >= 0; i-- {
				if _, err := c.call("DEL", c.plugins[i], name, port, result); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return errors.Join(err, exec.Command("ip", "netns", "delete", name).Run())
}

func (c *chain) call(verb string, plugin object, name string, port int, previous object) ([]byte, error) {
	config := object{"name": c.name, "cniVersion": c.version}
	for key, value := range plugin {
		if key != "capabilities" {
			config[key] = value
		}
	}
	if wanted, ok := plugin["capabilities"].(object); ok && wanted["portMappings"] == true && !c.noHostPort {
		config["runtimeConfig"] = object{"portMappings": []object{{"hostPort": port, "containerPort": 80, "protocol": "tcp"}}}
	}
	if previous != nil {
		config["prevResult"] = previous
	}
	input, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(c.bin, plugin["type"].(string))
	command := exec.Command(program)
	command.Stdin = bytes.NewReader(input)
	command.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+name, "CNI_IFNAME=eth0",
		"CNI_NETNS=/run/netns/"+name, "CNI_PATH="+c.bin)
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", program, verb, err, output)
	}
	return output, nil
}
